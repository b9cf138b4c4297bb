import { openParquet, readRows } from '../../lib/data/own/parquet.js';
import { serveTasks } from '../../lib/threads/worker_tasks.js';

/** Reads Parquet files: the rows that came out, or why none did. */
export interface ParquetTasks {
  read: { task: string; result: number | string };
}

// As in lib/data/own/worker.ts.
process.on('unhandledRejection', () => {});

serveTasks<ParquetTasks>({
  read: async (path) => {
    try {
      const file = await openParquet(path);
      file.close();
      let rows = 0;
      for (const count of file.groups) {
        const columns = [
          { kind: 'text' as const, column: 'caption' },
          { kind: 'image' as const, column: 'image' },
        ];
        rows += (await readRows(path, rows, rows + count, columns)).length;
      }
      return rows;
    } catch (error) {
      return String(error);
    }
  },
});
