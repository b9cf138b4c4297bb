import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { get, request, type IncomingMessage } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { separateWatch } from '../../lib/cli/watch.js';
import type { MetricsLine, StepMetrics } from '../../lib/train/metrics.js';
import type { LiveData } from '../../lib/watch/client.js';
import { RunHistory, ThinnedCurve } from '../../lib/watch/history.js';
import { LivePage } from '../../lib/watch/server.js';
import { MetricsTail } from '../../lib/watch/tail.js';

let run: string;
let metrics: string;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), 'mot-watch-'));
  metrics = join(run, 'metrics.jsonl');
});
afterEach(() => rmSync(run, { recursive: true, force: true }));

const step = (n: number, loss = 1 / n): StepMetrics => ({
  step: n,
  loss,
  losses: { text: loss },
  grad_norm: 1,
  lr: 1e-3,
  tokens: 10,
  tokens_per_second: 500,
  elapsed: n,
  memory: 100,
});
const write = (...lines: MetricsLine[]): void =>
  appendFileSync(metrics, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));

describe('the tail of a metrics file', () => {
  async function read(tail: MetricsTail): Promise<(number | 'restart')[]> {
    const got: (number | 'restart')[] = [];
    await tail.read(
      (line) => got.push(line.step),
      () => got.push('restart'),
    );
    return got;
  }

  test('gives every line once, halves only when they are whole', async () => {
    const tail = new MetricsTail(metrics);
    expect(await read(tail)).toEqual([]);
    write(step(1), step(2));
    expect(await read(tail)).toEqual([1, 2]);
    const half = JSON.stringify(step(3));
    appendFileSync(metrics, half.slice(0, 20));
    expect(await read(tail)).toEqual([]);
    appendFileSync(metrics, `${half.slice(20)}\n`);
    expect(await read(tail)).toEqual([3]);
  });

  test('begins again when the file was cut, though it grew beyond that meanwhile, or when it is gone', async () => {
    const tail = new MetricsTail(metrics);
    write(step(1));
    const { length } = JSON.stringify(step(1));
    write(step(2), step(3));
    await read(tail);
    truncateSync(metrics, length + 1);
    write({ event: 'resumed_from', step: 1, checkpoint: 'c' }, step(2, 7), step(3, 7), step(4, 7), step(5, 7));
    expect(await read(tail)).toEqual(['restart', 1, 1, 2, 3, 4, 5]);
    rmSync(metrics);
    expect(await read(tail)).toEqual(['restart']);
    expect(await read(tail)).toEqual([]);
  });

  test('reads a file of many pieces', async () => {
    const count = 12_000;
    write(...Array.from({ length: count }, (_, i) => step(i + 1)));
    expect(await read(new MetricsTail(metrics))).toEqual(Array.from({ length: count }, (_, i) => i + 1));
  });
});

describe('curves', () => {
  test('keep few points, each the mean of its span', () => {
    const curve = new ThinnedCurve();
    for (let i = 1; i <= 5000; i++) curve.add(i, i);
    expect(curve.step.length).toBeLessThanOrEqual(512);
    expect(curve.step.length).toBeGreaterThan(200);
    const stride = curve.step[0]!;
    expect(curve.step).toEqual(curve.step.map((_, i) => (i + 1) * stride));
    expect(curve.value).toEqual(curve.step.map((last) => last - (stride - 1) / 2));
    curve.add(5001, null);
  });

  test('charts and facts of a run', () => {
    const history = new RunHistory();
    for (const n of [1, 2, 3]) history.add(step(n));
    history.add({ event: 'validation', step: 3, split: 'validation', loss: 5, losses: { text: 5 }, targets: {} });
    history.add({ event: 'resumed_from', step: 3, checkpoint: 'c' });
    const anomaly = { event: 'anomaly', step: 3, loss: 9, grad_norm: 1, max_loss: 5, max_grad_norm: 2 } as const;
    history.add({ ...anomaly, kind: 'spike', action: 'warned', documents: [4] });
    history.add({ ...anomaly, step: 4, kind: 'not_finite', action: 'skipped', loss: null, documents: [5] });
    history.add({ ...step(4), diffusion_loss: 0.5 });
    const [text, diffusion, throughput] = history.charts();
    expect(diffusion).toMatchObject({
      unit: 'squared error of the prediction',
      series: [{ step: [4], value: [0.5] }, {}, {}],
    });
    expect(text).toMatchObject({ title: 'text' });
    expect(text!.series.find(({ label }) => label === 'validation')).toMatchObject({ step: [3], value: [5] });
    expect(throughput).toMatchObject({ title: 'throughput', series: [{ value: [500, 500, 500, 500] }, {}] });
    expect(Object.fromEntries(history.facts(10))).toMatchObject({
      step: '4 of 10',
      loss: '0.2500',
      'time left': '6s',
      resumed: 'once',
      'loss spikes': '1, last at step 3',
      'skipped steps': '1, last at step 4',
    });
  });
});

describe('the live page', () => {
  let page: LivePage;
  beforeEach(async () => {
    page = await LivePage.open(run, { port: 0 });
  });
  afterEach(() => page.close());

  const answer = (path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      request(new URL(path, page.url), { headers, method }, resolve).on('error', reject).end();
    });
  async function text(response: IncomingMessage): Promise<string> {
    let all = '';
    for await (const piece of response) all += String(piece);
    return all;
  }

  /** The states that the server sends, until it ends. */
  async function* events(): AsyncGenerator<LiveData> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      get(new URL('events', page.url), resolve).on('error', reject);
    });
    let rest = '';
    for await (const piece of response) {
      const messages = (rest + String(piece)).split('\n\n');
      rest = messages.pop()!;
      for (const message of messages) if (message.startsWith('data: ')) yield JSON.parse(message.slice(6)) as LiveData;
    }
  }

  test('sends the state at once, then whatever is new, and ends with the run', async () => {
    writeFileSync(join(run, 'config.yaml'), 'train: {steps: 3}\n');
    const stream = events();
    const next = async (): Promise<LiveData> => (await stream.next()).value as LiveData;
    expect(await next()).toMatchObject({ state: 'waiting', charts: [] });
    write(step(1));
    expect(await next()).toMatchObject({ state: 'training', facts: expect.arrayContaining([['step', '1 of 3']]) });
    write(step(2), step(3));
    await page.close('finished');
    expect(await next()).toMatchObject({ state: 'finished', facts: expect.arrayContaining([['step', '3 of 3']]) });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
    await expect(answer('/')).rejects.toMatchObject({ code: expect.stringMatching(/^ECONN(REFUSED|RESET)$/) });
  });

  test('a page that comes later gets everything', async () => {
    write(step(1), step(2));
    for (let i = 0; i < 2; i++)
      for await (const data of events()) {
        expect(data.charts[0]!.series[0]).toMatchObject({ step: [1, 2], value: [1, 0.5] });
        break;
      }
  });

  test('serves its files and nothing else', async () => {
    writeFileSync(join(run, 'secret.txt'), 'secret');
    for (const path of ['/', '/live.js', '/live.css', '/?a=b']) {
      const response = await answer(path);
      expect(response.statusCode).toBe(200);
      expect(response.headers['content-security-policy']).toMatch(/default-src 'none'.*script-src 'self';/);
      expect((await text(response)).length).toBeGreaterThan(100);
    }
    for (const path of ['/secret.txt', '/metrics.jsonl', '/../package.json', '/%2e%2e/%2e%2e/etc/passwd', '/live.js/'])
      expect((await answer(path)).statusCode).toBe(404);
    expect((await answer('/', {}, 'POST')).statusCode).toBe(405);
    // The script is whole: what it takes from the library is in it.
    new Function('uPlot', 'document', await text(await answer('/live.js')));
  });

  test.each([
    [{ Host: 'evil.example' }, 403],
    [{ Host: 'localhost.evil.example:80' }, 403],
    [{ Host: '127.0.0.1.evil.example' }, 403],
    [{ Origin: 'http://localhost:3000' }, 403],
    [{ Origin: 'null' }, 403],
    [{ Host: 'localhost:9000', Origin: 'http://localhost:9000' }, 200],
    [{ Host: '[::1]:9000' }, 200],
  ])('%j is answered with %d', async (headers, status) => {
    const response = await answer('/', headers as Record<string, string>);
    response.resume();
    expect(response.statusCode).toBe(status);
    if (status === 403) expect((await answer('/events', headers as Record<string, string>)).statusCode).toBe(403);
  });

  test('at most sixteen pages are open', async () => {
    const open = await Promise.all(Array.from({ length: 16 }, () => answer('/events')));
    expect((await answer('/events')).statusCode).toBe(503);
    for (const response of open) response.destroy();
  });

  test('is on loopback, and on the next port where one is taken', async () => {
    const taken = Number(new URL(page.url).port);
    const second = await LivePage.open(run, { port: taken });
    const { port, hostname } = new URL(second.url);
    expect(hostname).toBe('127.0.0.1');
    expect(Number(port)).toBeGreaterThan(taken);
    expect(Number(port)).toBeLessThan(taken + 10);
    await second.close();
  });

  test('a run folder that vanishes does no harm', async () => {
    write(step(1));
    const stream = events();
    await stream.next();
    rmSync(run, { recursive: true });
    expect((await stream.next()).value).toMatchObject({ state: 'waiting' });
  });
});

test('a free port is found beside a foreign server', async () => {
  const foreign = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => foreign.once('listening', resolve));
  const { port } = foreign.address() as AddressInfo;
  const page = await LivePage.open(run, { port });
  expect(Number(new URL(page.url).port)).not.toBe(port);
  await page.close();
  foreign.close();
});

test.each([
  ['train --watch a.yaml', 'train --watch=8420 a.yaml'],
  ['train a.yaml --watch', 'train a.yaml --watch=8420'],
  ['train a.yaml --watch 9000 out=b', 'train a.yaml --watch 9000 out=b'],
  ['train a.yaml --watch --resume', 'train a.yaml --watch=8420 --resume'],
])('mot %s means mot %s', (words, meaning) => expect(separateWatch(words.split(' '))).toEqual(meaning.split(' ')));
