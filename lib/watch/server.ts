import { readFileSync, realpathSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { CONFIG_FILE, METRICS_FILE } from '../train/run_folder.js';
import { readSamples, SAMPLE_FILE, samplesFolder } from '../train/samples.js';
import type { LiveData } from './client.js';
import { RunHistory } from './history.js';
import { livePage } from './page.js';
import { MetricsTail } from './tail.js';

/** Where the live page is served when no port is named. */
export const DEFAULT_PORT = 8420;
/** Ports tried, from the wanted one on. */
const PORTS_TRIED = 10;
/** Pages open at once. */
const MOST_PAGES = 16;
/** A page that has so many bytes still to read is cut off; it connects again when it can. */
const MOST_UNREAD = 4 << 20;
/** Milliseconds between looks at the metrics. */
const INTERVAL = 1000;
/** A run that has done its last step may still validate and save: so many milliseconds later it counts as finished. */
const SETTLED = 10_000;

const LOOPBACK = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/;
const HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

export interface WatchOptions {
  /** First port to try, then the nine after it. Default 8420; 0: any free one. */
  port?: number;
}

/**
 * A live page of a run on loopback: curves, throughput, memory. It follows RUN/metrics.jsonl, which this or another
 * process writes, and reads only while a page is open. Nothing that goes wrong here reaches the training.
 */
export class LivePage {
  private readonly pages = new Set<ServerResponse>();
  private readonly files = livePage();
  private readonly tail: MetricsTail;
  private history = new RunHistory();
  private reading: Promise<void> = Promise.resolve();
  private sent = '';
  private lastNews = 0;
  private ended: 'stopped' | 'finished' | undefined;
  private readonly timer: NodeJS.Timeout;

  private constructor(
    private readonly run: string,
    private readonly server: Server,
    /** Where a browser finds it. */
    readonly url: string,
  ) {
    this.tail = new MetricsTail(join(run, METRICS_FILE));
    this.timer = setInterval(() => void this.update(), INTERVAL).unref();
    server.on('request', (request, response) => this.answer(request, response));
    server.unref();
  }

  /**
   * Serves the page of a run folder, which need not be there yet.
   *
   * @throws Error EADDRINUSE where all ten ports are taken, or what else listening gives.
   */
  static async open(run: string, { port = DEFAULT_PORT }: WatchOptions = {}): Promise<LivePage> {
    for (let tried = 0; ; tried++) {
      const server = createServer();
      server.maxConnections = 4 * MOST_PAGES;
      try {
        await new Promise<void>((listening, failed) => {
          server.once('error', failed);
          server.listen({ host: '127.0.0.1', port: port === 0 ? 0 : port + tried, exclusive: true }, listening);
        });
        const bound = (server.address() as AddressInfo).port;
        return new LivePage(run, server, `http://127.0.0.1:${bound}/`);
      } catch (error) {
        const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
        if (!taken || tried + 1 === PORTS_TRIED || port + tried === 65535) throw error;
      }
    }
  }

  /**
   * Sends the last lines and ends.
   *
   * @param state How the run ended, where this process trained it: pages of a finished run do not wait for more.
   */
  async close(state?: 'stopped' | 'finished'): Promise<void> {
    clearInterval(this.timer);
    this.ended = state;
    await this.update();
    for (const page of this.pages) page.end();
    this.server.close();
    this.server.closeIdleConnections();
    // Time for the last bytes; a browser that does not read them must not hold up the end.
    setTimeout(() => this.server.closeAllConnections(), 500).unref();
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const refuse = (status: number, text: string): void =>
      void response.writeHead(status, { ...HEADERS, 'Content-Type': 'text/plain' }).end(`${text}\n`);
    const { host = '', origin } = request.headers;
    // Another web page must neither read a run through a name of its own for this address, nor ask from its own origin.
    if (!LOOPBACK.test(host)) return refuse(403, 'This page answers to localhost only.');
    if (origin !== undefined && origin !== `http://${host}`) return refuse(403, 'This page answers to itself only.');
    if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(405, 'Only GET.');
    const path = (request.url ?? '/').split('?')[0]!;
    if (path === '/events') {
      if (this.pages.size >= MOST_PAGES) return refuse(503, 'Too many pages are open.');
      this.addPage(response);
      return;
    }
    const file = this.files.get(path) ?? this.sampleFile(path);
    if (!file) return refuse(404, 'There is nothing here.');
    response.writeHead(200, { ...HEADERS, 'Content-Type': file.type });
    response.end(request.method === 'HEAD' ? undefined : file.body);
  }

  private addPage(response: ServerResponse): void {
    response.writeHead(200, { ...HEADERS, 'Content-Type': 'text/event-stream' });
    response.write('retry: 2000\n\n');
    this.pages.add(response);
    response.on('close', () => this.pages.delete(response));
    response.on('error', () => this.pages.delete(response));
    // The newest state to this page, whether or not it is new to the others.
    void this.look().then(() => this.send(response, this.message()));
  }

  /** Reads what is new and sends it to every page. */
  private async update(): Promise<void> {
    if (this.pages.size === 0) return;
    await this.look();
    const message = this.message();
    if (message === this.sent) return;
    this.sent = message;
    for (const page of this.pages) this.send(page, message);
  }

  private send(page: ServerResponse, message: string): void {
    if (page.writableLength > MOST_UNREAD) page.destroy();
    else if (page.writable) page.write(message);
  }

  /** One look at a time; a failure shows as what is known so far. */
  private look(): Promise<void> {
    this.reading = this.reading
      .then(() =>
        this.tail.read(
          (line) => {
            this.history.add(line);
            this.lastNews = Date.now();
          },
          () => (this.history = new RunHistory()),
        ),
      )
      .catch(() => undefined);
    return this.reading;
  }

  private message(): string {
    const { history } = this;
    const steps = this.steps();
    const over = steps !== undefined && history.step >= steps && Date.now() - this.lastNews > SETTLED;
    const data: LiveData = {
      title: basename(resolve(this.run)),
      state: this.ended ?? (over ? 'finished' : history.step > 0 ? 'training' : 'waiting'),
      facts: history.facts(steps),
      charts: history.step > 0 ? history.charts() : [],
      ...this.samples(),
    };
    return `data: ${JSON.stringify(data, shorter)}\n\n`;
  }

  /** The newest samples, where there are any. */
  private samples(): Pick<LiveData, 'samples'> {
    const step = this.history.samples;
    const list = step === undefined ? undefined : readSamples(this.run, step);
    return step === undefined || list === undefined ? {} : { samples: { step, folder: samplesFolder(step), list } };
  }

  /** A picture or sound of the samples; nothing else of the run folder, and nothing that a link leads out of it. */
  private sampleFile(path: string): { type: string; body: Buffer } | undefined {
    const [, folder, name] = /^\/(samples\/step-\d+)\/([^/]+)$/.exec(path) ?? [];
    if (folder === undefined || !SAMPLE_FILE.test(name!)) return undefined;
    try {
      const file = realpathSync(join(this.run, folder, name!));
      if (file !== join(realpathSync(this.run), folder, name!)) return undefined;
      return { type: name!.endsWith('.png') ? 'image/png' : 'audio/wav', body: readFileSync(file) };
    } catch {
      return undefined;
    }
  }

  /** Steps of the whole run by its config. */
  private steps(): number | undefined {
    try {
      const config = parse(readFileSync(join(this.run, CONFIG_FILE), 'utf8')) as { train?: { steps?: unknown } } | null;
      const steps = config?.train?.steps;
      return typeof steps === 'number' ? steps : undefined;
    } catch {
      return undefined;
    }
  }
}

/** As many digits as a chart can show. */
function shorter(_: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
}
