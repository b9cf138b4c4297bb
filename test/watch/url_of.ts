import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** Address of the live page that a process tells of. */
export async function urlOf(child: ChildProcess): Promise<string> {
  for (let said = ''; ;) {
    const [text] = (await Promise.race([once(child.stderr!, 'data'), once(child.stdout!, 'data')])) as [Buffer];
    const url = /http:\/\/127\.0\.0\.1:\d+\//.exec((said += text.toString()));
    if (url) return url[0];
  }
}
