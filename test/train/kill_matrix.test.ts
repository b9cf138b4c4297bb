import { expect, test } from '@jest/globals';
import { killMatrix } from './kill_matrix.js';
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
