/** One row of the paper's step-matching results; fractions of the dense model's steps, lower is better. */
export interface PaperRow {
  setting: 'Chameleon' | 'Chameleon + Speech' | 'Transfusion';
  size: string;
  model: 'mot' | 'moe-4x' | 'hybrid';
  /** Training and validation fraction by modality, as printed. */
  fractions: Record<string, { train?: string; validation?: string }>;
}

/** Where the figures come from. */
export const PAPER_SOURCE = 'Liang et al. 2025, Mixture-of-Transformers, arXiv:2411.04996v2';

function row(
  setting: PaperRow['setting'],
  size: string,
  model: PaperRow['model'],
  fractions: Record<string, [train: string, validation: string]>,
): PaperRow {
  return {
    setting,
    size,
    model,
    fractions: Object.fromEntries(
      Object.entries(fractions).map(([modality, [train, validation]]) => [
        modality,
        { ...(train === '' ? {} : { train }), ...(validation === '' ? {} : { validation }) },
      ]),
    ),
  };
}

/** The paper's fractions; one that it does not give is left out. */
export const PAPER: readonly PaperRow[] = [
  row('Chameleon', '37M', 'mot', { image: ['.260', '.250'], text: ['.546', '.597'] }),
  row('Chameleon', '94M', 'mot', { image: ['.199', '.225'], text: ['.530', '.570'] }),
  row('Chameleon', '443M', 'mot', { image: ['.271', '.294'], text: ['.610', '.639'] }),
  row('Chameleon', '1.5B', 'mot', { image: ['.350', '.382'], text: ['.662', '.721'] }),
  row('Chameleon', '7B', 'mot', { image: ['.348', '.431'], text: ['.558', '.553'] }),
  row('Chameleon', '37M', 'moe-4x', { image: ['.496', '2.75'], text: ['.591', '.637'] }),
  row('Chameleon', '443M', 'moe-4x', { image: ['.490', '.694'], text: ['.731', '.766'] }),
  row('Chameleon', '443M', 'hybrid', { image: ['.263', '.284'], text: ['.431', '.502'] }),
  row('Chameleon', '7B', 'moe-4x', { image: ['1.012', '1.187'], text: ['.635', '.601'] }),
  row('Chameleon + Speech', '443M', 'mot', {
    image: ['.262', '.282'],
    text: ['.557', '.577'],
    speech: ['.151', ''],
  }),
  row('Chameleon + Speech', '1.5B', 'mot', {
    image: ['.336', '.369'],
    text: ['.595', '.636'],
    speech: ['.199', ''],
  }),
  row('Chameleon + Speech', '7B', 'mot', {
    image: ['', '.402'],
    text: ['', '.536'],
    speech: ['.229', '.313–.372'],
  }),
  row('Transfusion', '163M', 'mot', { image: ['.254', '.286'], text: ['.980', ''] }),
  row('Transfusion', '760M', 'mot', { image: ['.176', '.247'], text: ['.970', ''] }),
  row('Transfusion', '7B', 'mot', { image: ['.30', '.374'], text: ['about 1', ''] }),
];

/** The paper's setting that is like a model's; undefined: none. @param modalities Those that have a loss. */
export function paperSetting(modalities: readonly string[], diffusion: boolean): PaperRow['setting'] | undefined {
  if (diffusion) return 'Transfusion';
  const names = [...modalities].sort().join(' ');
  if (names === 'image text') return 'Chameleon';
  return names === 'image speech text' ? 'Chameleon + Speech' : undefined;
}
