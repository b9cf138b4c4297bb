import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Longest gloss that is kept, in characters: none makes a document longer than a scene's. */
const LONGEST = 120;

/** Glosses of WordNet as "word: meaning", in the order of its files; examples of use are left out. */
export function loadGlosses(folder: string): string[] {
  const glosses: string[] = [];
  for (const part of ['noun', 'verb', 'adj', 'adv']) {
    const lines = readFileSync(join(folder, 'dict', `data.${part}`), 'utf8').split('\n');
    for (const line of lines) {
      // "offset file type count word ... | gloss"; lines of the licence begin with blanks.
      const bar = line.indexOf('|');
      if (line.startsWith(' ') || bar < 0) continue;
      const word = line
        .split(' ', 5)[4]!
        .replace(/\(.*\)$/, '')
        .replaceAll('_', ' ');
      const meaning = line
        .slice(bar + 1)
        .replace(/;?\s*".*$/, '')
        .trim();
      const gloss = `${word}: ${meaning}`.toLowerCase();
      if (meaning !== '' && gloss.length <= LONGEST) glosses.push(gloss);
    }
  }
  return glosses;
}
