import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../io/files.js';
import { writePng } from '../media/png.js';
import { writeWav } from '../media/wav.js';
import type { Segment } from '../modalities/registry.js';
import { segmentHtml } from './dataset_page.js';
import { renderPage } from './page.js';

/**
 * Writes documents into a folder: `document.html`, one page with everything in it; `documents.jsonl`, a line for each
 * document as `mot prepare` reads it; and the pictures and sounds that the lines name (`0-1.png`: segment 1 of document 0).
 *
 * @returns Names of the files, the page first.
 * @throws MotError ERR_FILE_WRITE.
 */
export async function writeDocuments(folder: string, documents: readonly (readonly Segment[])[]): Promise<string[]> {
  mkdirSync(folder, { recursive: true });
  const files: string[] = [];
  const lines: string[] = [];
  for (const [d, segments] of documents.entries()) {
    const line: Record<string, unknown>[] = [];
    for (const [s, segment] of segments.entries()) {
      if ('image' in segment) {
        const name = `${d}-${s}.png`;
        await writePng(join(folder, name), segment.image, { scale: 1 });
        line.push({ image: name });
        files.push(name);
      } else if ('speech' in segment) {
        const name = `${d}-${s}.wav`;
        await writeWav(join(folder, name), segment.speech);
        line.push({ audio: name });
        files.push(name);
      } else line.push(segment);
    }
    lines.push(JSON.stringify(line));
  }
  const cards = documents.map(
    (segments, d) => `<article class="sample"><h3>document ${d}</h3>${segments.map(segmentHtml).join('\n')}</article>`,
  );
  const page = renderPage(
    'Generated documents',
    `<h1>Generated documents</h1><div class="samples">${cards.join('\n')}</div>`,
    [],
  );
  writeFileAtomic(join(folder, 'documents.jsonl'), lines.map((line) => `${line}\n`).join(''));
  writeFileAtomic(join(folder, 'document.html'), page);
  return ['document.html', 'documents.jsonl', ...files];
}
