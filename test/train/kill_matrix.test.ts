import { expect, test } from '@jest/globals';
import { killMatrix, killWhileGoingOn } from './kill_matrix.js';
import { TinyJob } from './tiny_job.js';

// Two hundred kills: kill_matrix.slow.test.ts.
test('killed ten times at random moments, a run resumes to the same bits and leaves no orphans', async () => {
  const job = await TinyJob.create(240);
  try {
    await job.train('whole');
    const counts = await killMatrix(job, 10, 1);
    expect(counts.kills).toBe(10);
    expect(counts.whileSaving).toBeGreaterThan(0);
  } finally {
    job.remove();
  }
}, 180_000);

test('killed while a copy is written and steps go on, a run resumes from the checkpoint before', async () => {
  // Files of 15 MB: writing them takes a few steps.
  const job = await TinyJob.create(24, 'ffn_dim: 2048');
  try {
    await job.train('whole');
    await killWhileGoingOn(job, 'killed');
  } finally {
    job.remove();
  }
}, 180_000);
