import { hasOwnNorms, PARTS, towersOf, type ModelConfig, type PartOrNorms } from '../config/model_config.js';
import type { Preset } from '../config/presets.js';
import type { Rate } from '../config/rates.js';
import type { RunConfig } from '../config/run_config.js';
import type { MachineMemory } from '../machine.js';
import type { Fit, TrainingMemory } from '../model/fit.js';
import type { TokenFlops } from '../model/flops.js';
import type { PlanEntry } from '../model/model.js';
import type { ParameterCount } from '../model/parameters.js';
import { bytes } from '../units.js';
import { table } from './common.js';

/** What `mot describe` has found out. */
export interface Description {
  /** As the user named it. */
  what: string;
  model: ModelConfig;
  train: RunConfig['train'];
  parameters: ParameterCount;
  flops: TokenFlops;
  machine: MachineMemory;
  memory: readonly TrainingMemory[];
  /** Only where the whole plan is to be shown. */
  plan?: readonly PlanEntry[];
}

/** The list of presets. */
export function presetLines(presets: readonly Preset[], variants: readonly string[]): string[] {
  const rows = presets.map(({ name, model, train }) => [
    name,
    `${model.d_model} / ${model.n_layers} / ${model.n_heads}`,
    number(train.sequences! * train.seq_len!),
    number(train.steps!),
  ]);
  const settings = [...new Map(presets.map(({ name, about }) => [name.slice(0, name.lastIndexOf('-')), about]))];
  return [
    table([['preset', 'd / layers / heads', 'tokens a step', 'steps'], ...rows], { figures: true }),
    '',
    table(settings.map(([setting, about]) => [`${setting}-*`, about])),
    '',
    `Each with ${variants.map((variant) => `-${variant}`).join(', ')} after its name; without, it is -mot.`,
  ];
}

/** Everything about one model, at most 100 columns wide but for the plan. */
export function descriptionLines(description: Description): string[] {
  const { what, model, train, parameters, flops, machine, memory, plan } = description;
  return [
    ...settings(what, model, train),
    '',
    ...parameterLines(model, parameters),
    '',
    `A token takes ${mega(flops.forward)} MFLOP forward and ${mega(flops.backward)} backward, in documents of ${number(train.seq_len)} tokens`,
    ...(flops.diffusion
      ? [
          `A patch takes ${mega(flops.diffusion.patch)} MFLOP more forward, the timestep of an image ${mega(flops.diffusion.image)}; backward twice as much`,
        ]
      : []),
    '',
    ...memoryLines(train, memory, flops, machine),
    ...(plan ? ['', planTable(plan)] : []),
  ];
}

function settings(what: string, model: ModelConfig, train: RunConfig['train']): string[] {
  const { d_model, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, vocab, modalities } = model;
  const heads = n_kv_heads === n_heads ? `${n_heads}` : `${n_heads} (keys and values: ${n_kv_heads})`;
  const {
    lr,
    schedule,
    min_lr_ratio,
    warmup_steps,
    beta1,
    beta2,
    eps,
    weight_decay,
    clip,
    ema_decay,
    rates = [],
  } = train;
  const end = schedule === 'constant' ? '' : ` to ${short(lr * min_lr_ratio)}`;
  const { diffusion, experts = {} } = model;
  return [
    what,
    table([
      ['  model', `d_model ${d_model}, ${n_layers} layers, ${heads} heads of ${head_dim}, feed-forward ${ffn_dim}`],
      ['  tokens', `${number(vocab)} ids; ${modalities.join(', ')}`],
      ...Object.entries(experts).map(([tower, { count, routing, capacity_factor, top_k }]) => [
        '  experts',
        routing === 'expert_choice'
          ? `${count} in the tower ${tower}, which choose their tokens, capacity ${capacity_factor}`
          : `${count} in the tower ${tower}, of which a token chooses ${top_k}`,
      ]),
      ...(diffusion
        ? [
            [
              '  diffusion',
              `of ${diffusion.modality}: patches of ${diffusion.patch_dim} numbers, ${diffusion.steps} timesteps, weight ${diffusion.weight}, ${diffusion.prediction} predicted`,
            ],
          ]
        : []),
      [
        '  training',
        `${number(train.steps)} steps of ${train.sequences} x ${train.seq_len} tokens, ${train.micro_sequences} at once`,
      ],
      ['  rate', `${warmup_steps} steps of warm-up to ${short(lr)}, ${schedule}${end}`],
      ...(rates.length > 0 ? [['  rates by place', rates.map(rateText).join('; ')]] : []),
      ['  AdamW', `betas ${beta1}, ${beta2}, eps ${short(eps)}, weight decay ${weight_decay}, clip ${clip}`],
      ...(ema_decay === undefined ? [] : [['  averaged weights', `decay ${ema_decay}`]]),
    ]),
  ];
}

/** `text mlp at 0.1 of lr`, `self_attn frozen`. */
function rateText({ tower, part, scale }: Rate): string {
  const place = [tower, part].filter((name) => name !== undefined).join(' ') || 'all';
  return `${place} ${scale === 0 ? 'frozen' : `at ${short(scale)} of lr`}`;
}

function parameterLines(model: ModelConfig, count: ParameterCount): string[] {
  const parts: PartOrNorms[] = hasOwnNorms(model) ? [...PARTS, 'norms'] : [...PARTS];
  // A tower may serve other modalities in one part than in another.
  const serves = (tower: string): string => {
    const byPart = parts.map((part) =>
      model.modalities.filter((_, m) => towersOf(model, part)[m] === tower).join(', '),
    );
    const [first, ...others] = [...new Set(byPart.filter((names) => names !== ''))];
    return others.length > 0 || first === tower ? tower : `${tower} (${first})`;
  };
  const cells = (size: number): string => (size === 0 ? '-' : number(size));
  const towers = Object.entries(count.towers).map(([tower, sizes]) => [
    `  ${serves(tower)}`,
    ...parts.map((part) => cells(sizes[part] ?? 0)),
  ]);
  return [
    table([['Parameters by tower', ...parts], ...towers], { figures: true }),
    '',
    table(
      [
        ['  embedding', count.embedding],
        ['  output head', count.head],
        ['  without these', count.nonEmbedding],
        ['  in all', count.total],
        ...Object.entries(count.active).map(([modality, size]): [string, number] => [`  active for ${modality}`, size]),
      ].map(([label, size]) => [label!, number(size as number)]),
      { figures: true },
    ),
  ];
}

function memoryLines(
  train: RunConfig['train'],
  memory: readonly TrainingMemory[],
  flops: TokenFlops,
  machine: MachineMemory,
): string[] {
  const groups = [...new Set(memory.flatMap((way) => Object.keys(way.groups)))];
  const step = flops.forward + flops.backward;
  const chosen = ({ dtype, checkpointing }: TrainingMemory): boolean =>
    dtype === train.dtype && checkpointing === train.checkpointing;
  // Sequences at once, or how much of one.
  const fit = ({ sequences, length }: Fit): string =>
    length === train.seq_len ? number(sequences) : sequences === 0 ? 'none' : `${number(length)} tokens`;
  const rows = [
    ['', ...memory.map(({ dtype }) => dtype)],
    ['  train.checkpointing', ...memory.map((way) => `${way.checkpointing}${chosen(way) ? '*' : ''}`)],
    ...groups.map((group) => [`  ${group}`, ...memory.map((way) => bytes(way.groups[group] ?? 0))]),
    ['  in all (lifetimes overlap)', ...memory.map((way) => bytes(way.arenaBytes))],
    ['  FLOPs', ...memory.map((way) => `+ ${((100 * flops.again[way.checkpointing]) / step).toFixed(0)} %`)],
    [`  sequences in ${bytes(machine.limit)}`, ...memory.map((way) => fit(way.fits))],
  ];
  return [
    `Memory of training with ${train.micro_sequences} x ${train.seq_len} tokens at once (* as set), and how many fit this machine`,
    table(rows, { figures: true }),
  ];
}

function number(count: number): string {
  return count.toLocaleString('en');
}

function mega(count: number): string {
  return (count / 1e6).toFixed(1);
}

/** At most three digits. */
function short(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function planTable(plan: readonly PlanEntry[]): string {
  const rows = plan.map(({ name, group, dtype, shape, bytes: size, offset }) => [
    `  ${name}`,
    group,
    dtype,
    `[${shape.join(', ')}]`,
    bytes(size),
    offset,
  ]);
  return table([['  tensor', 'group', 'dtype', 'shape', 'size', 'offset'], ...rows]);
}
