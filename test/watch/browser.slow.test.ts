import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { prepareOwn } from '../../lib/data/own/prepare.js';
import { options, png, write } from '../data/own/fixtures.js';
import { exitOf, TinyJob } from '../train/tiny_job.js';
import { Browser, findBrowser } from './browser.js';
import { urlOf } from './url_of.js';

const program = findBrowser();
const withBrowser = program === undefined ? test.skip : test;
if (program === undefined)
  console.warn('The pages are not opened: no Chromium was found (on Debian and Ubuntu: apt-get install chromium).');

let job: TinyJob;
let browser: Browser;
beforeAll(async () => {
  job = await TinyJob.create(100_000);
  if (program !== undefined) browser = await Browser.start(program);
}, 120_000);
afterAll(async () => {
  await browser?.close();
  job.remove();
});

/** Waits until an expression is true in the page. */
async function until(expression: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await browser.evaluate<boolean>(expression))) {
    if (Date.now() > deadline) throw new Error(`the page never had ${expression}`);
    await sleep(200);
  }
}

const CURVES = `[...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL()).join()`;
const NOTHING_BESIDE = 'document.documentElement.scrollWidth <= window.innerWidth';

withBrowser(
  'a live page moves its curves on a phone, asks for nothing elsewhere and has no error',
  async () => {
    const child = job.start('live', '--watch', '0', 'train.checkpoint_every=0');
    const exit = exitOf(child);
    const url = await urlOf(child);
    await browser.open(url);
    await until(`document.body?.innerText.includes('training') && document.querySelectorAll('canvas').length >= 4`);
    const before = await browser.evaluate<string>(CURVES);
    await until(`(${CURVES}) !== ${JSON.stringify(before)}`);
    expect(await browser.evaluate(NOTHING_BESIDE)).toBe(true);
    expect(browser.errors).toEqual([]);
    expect(browser.requests.filter((request) => !request.startsWith(url))).toEqual([]);
    child.kill('SIGTERM');
    await until(`document.body.innerText.includes('stopped')`);
    expect(await exit).toMatchObject({ code: 0 });
  },
  180_000,
);

withBrowser(
  "a run's report draws its curves on a phone, asks for nothing and has no error",
  async () => {
    const lines = Array.from({ length: 40 }, (_, i) => {
      const image = `data:image/png;base64,${Buffer.from(png(i)).toString('base64')}`;
      return `${JSON.stringify([{ text: `picture ${i}` }, { image }])}\n`;
    });
    const source = write(join(job.folder, 'own/items.jsonl'), lines.join(''));
    const dataset = join(job.folder, 'own/prepared');
    await prepareOwn(
      options(`out: ${dataset}
sources: [{jsonl: ${source}}]
tokenizers: {text: {vocabulary: 280}, image: {size: 16, codes: 8, stages: 1}}
split: {validation: 0.2, heldout: 0.2}
`),
      { threads: 2 },
    );
    await job.train('done', ['train.steps=30', `data.dataset=${dataset}`]);
    const [node, cli] = job.command('done');
    const { status, stderr } = spawnSync(node!, [cli!, 'report', job.out('done')], { encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, expect.anything()]);
    const url = pathToFileURL(join(job.out('done'), 'report.html')).href;
    // The page of the job above, whose process is gone, would go on asking for it.
    await browser.open('about:blank');
    browser.errors.length = 0;
    browser.requests.length = 0;
    await browser.open(url);
    await until(`document.readyState === 'complete' && document.querySelectorAll('canvas, svg').length > 0`);
    expect(await browser.evaluate(NOTHING_BESIDE)).toBe(true);
    expect(browser.errors).toEqual([]);
    expect(browser.requests.filter((request) => request !== url && !request.startsWith('data:'))).toEqual([]);
  },
  180_000,
);
