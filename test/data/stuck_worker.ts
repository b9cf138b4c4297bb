import { setTimeout as sleep } from 'node:timers/promises';
import { serveTasks } from '../../lib/threads/worker_tasks.js';

/** Tasks that hang, die, take long or are done at once. */
export interface StuckTasks {
  hang: { task: null; result: never };
  die: { task: null; result: never };
  slow: { task: number; result: string };
  quick: { task: number; result: number };
}

serveTasks<StuckTasks>({
  hang: () => {
    for (;;);
  },
  die: () => process.exit(1),
  slow: async (ms) => {
    await sleep(ms);
    return 'slow';
  },
  quick: (value) => value + 1,
});
