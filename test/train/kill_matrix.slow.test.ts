import { expect, test } from '@jest/globals';
import { killMatrix } from './kill_matrix.js';
import { TinyJob } from './tiny_job.js';

test('killed two hundred times at random moments, runs resume to the same bits and leave no orphans', async () => {
  const job = await TinyJob.create(240);
  try {
    await job.train('whole');
    const counts = await killMatrix(job, 200, 2);
    console.log(`${counts.kills} kills, ${counts.whileSaving} of them while saving, ${counts.runs} runs finished`);
    expect(counts.kills).toBeGreaterThanOrEqual(200);
    expect(counts.whileSaving).toBeGreaterThan(20);
  } finally {
    job.remove();
  }
}, 3_600_000);
