import { expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';
import { packageRoot } from '../../lib/package.js';

const run = promisify(execFile);
const readme = readFileSync(join(packageRoot(), 'README.md'), 'utf8');
const example = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;

test('the example of the README is short, has the types it should, and learns what it says', async () => {
  expect(example.trim().split('\n').length).toBeLessThan(30);
  // Inside the package, so that its own name resolves to it.
  const folder = mkdtempSync(join(packageRoot(), 'dist', 'readme-'));
  try {
    const file = join(folder, 'example.ts');
    writeFileSync(file, example);
    const options = {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      strict: true,
      skipLibCheck: true,
    };
    const program = ts.createProgram([file], {
      ...options,
      lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
      types: ['node'],
    });
    const messages = ts
      .getPreEmitDiagnostics(program)
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
    expect(messages).toEqual([]);
    program.emit();
    const { stdout } = await run(process.execPath, [join(folder, 'example.js')]);
    const expected = /console\.log\(pixels.*\/\/ (.*)/.exec(example)![1]!;
    expect(stdout.trim().split('\n').pop()).toBe(expected);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
