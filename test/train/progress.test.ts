import { expect, test } from '@jest/globals';
import type { StepMetrics } from '../../lib/train/metrics.js';
import { consoleProgress } from '../../lib/train/progress.js';

test('lines name every loss, that of diffusion too', () => {
  const written: string[] = [];
  const progress = consoleProgress({ write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream);
  const losses = { text: 2, speech: null };
  const step: StepMetrics = {
    step: 1,
    loss: 3,
    losses,
    diffusion_loss: 0.25,
    grad_norm: 1,
    lr: 0.1,
    tokens: 10,
    tokens_per_second: 5,
    elapsed: 2,
    memory: 1,
  };
  progress.start(0, 4);
  progress.step(step);
  progress.validation({ event: 'validation', step: 1, split: 'heldout', loss: 2, losses: { text: 2 }, targets: {} });
  expect(written.slice(1)).toEqual([
    expect.stringMatching(
      /^step 1\/4 {2}loss 3\.0000 \(text 2\.000 {2}speech not finite {2}diffusion 0\.250\) {2}5 tokens\/s/,
    ),
    'step 1, heldout: text 2.000\n',
  ]);
});
