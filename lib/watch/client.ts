/// <reference lib="dom" />
// Runs in the browser: page.ts serves the text of `watchRun` as a script. It must therefore not use anything from
// outside its own body.
import type { SamplePiece, TrainingSample } from '../train/samples.js';
import type { Chart, drawCharts, Plots, UPlot } from '../report/charts.js';

/** What the server sends, whole, whenever something is new. */
export interface LiveData {
  title: string;
  /** `waiting` for the first step. */
  state: 'waiting' | 'training' | 'stopped' | 'finished';
  facts: [label: string, value: string][];
  charts: Chart[];
  /** The newest samples; their files lie under `folder`. */
  samples?: { step: number; folder: string; list: TrainingSample[] };
}

/** Keeps the page up to date, and connects again when the connection is lost. */
export function watchRun(draw: typeof drawCharts, uPlot: UPlot): void {
  const element = (id: string): HTMLElement => document.getElementById(id)!;
  const plots: Plots = new Map();
  let charts: Chart[] = [];
  let state = '';
  let heard = 0;

  const showState = (): void => {
    const seconds = Math.round((Date.now() - heard) / 1000);
    const age = state === 'training' && seconds > 5 ? `, nothing new for ${seconds} s` : '';
    element('state').textContent = state + age;
  };
  const show = (data: LiveData): void => {
    document.title = `${data.facts[0]?.[1] ?? data.state} - ${data.title}`;
    element('title').textContent = data.title;
    const facts = data.facts.map(([label, value]) => {
      const group = document.createElement('div');
      for (const [tag, text] of [
        ['dt', label],
        ['dd', value],
      ] as const)
        group.appendChild(document.createElement(tag)).textContent = text;
      return group;
    });
    element('facts').replaceChildren(...facts);
    for (const { id } of data.charts)
      if (!document.getElementById(id)) {
        const place = element('charts').appendChild(document.createElement('div'));
        place.id = id;
        place.className = 'chart';
      }
    if (data.samples) showSamples(data.samples);
    charts = data.charts;
    draw(charts, uPlot, plots);
  };

  const create = (tag: string, parent: Element, text = ''): HTMLElement => {
    const made = parent.appendChild(document.createElement(tag));
    made.textContent = text;
    return made;
  };
  /** A text, a picture or a sound, with what it is. */
  const showPiece = (parent: Element, label: string, piece: SamplePiece, folder: string): void => {
    if (!('file' in piece)) {
      const line = create('p', parent);
      create('b', line, label);
      line.append(` ${piece.text || '(nothing)'}`);
    } else if (piece.file.endsWith('.png')) {
      const figure = create('figure', parent);
      const image = figure.appendChild(document.createElement('img'));
      image.src = `${folder}/${piece.file}`;
      image.alt = label;
      create('figcaption', figure, label);
    } else {
      const sound = create('div', parent);
      sound.className = 'sound';
      create('span', sound, label);
      const audio = sound.appendChild(document.createElement('audio'));
      audio.controls = true;
      audio.preload = 'none';
      audio.src = `${folder}/${piece.file}`;
    }
  };
  const showSamples = ({ step, folder, list }: NonNullable<LiveData['samples']>): void => {
    // Once for each step: a sound that plays must not be cut off.
    if (String(step) === element('samples').dataset['step']) return;
    element('samples').dataset['step'] = String(step);
    element('samples-title').textContent = `Samples at step ${step}`;
    element('samples').replaceChildren();
    for (const { prompt, generated, truth } of list) {
      const card = create('article', element('samples'));
      card.className = 'sample';
      for (const piece of prompt) showPiece(card, `given: ${piece.modality}`, piece, folder);
      showPiece(card, `generated: ${generated.modality}`, generated, folder);
      showPiece(card, `true: ${truth.modality}`, truth, folder);
    }
  };

  const connect = (): void => {
    const source = new EventSource('events');
    source.onmessage = (event: MessageEvent<string>) => {
      const data = JSON.parse(event.data) as LiveData;
      state = data.state;
      heard = Date.now();
      show(data);
      showState();
      // Nothing more will come; a page that goes on asking would fill the console with errors.
      if (state === 'finished') source.close();
    };
    source.onerror = () => {
      state = state.startsWith('stopped') ? 'stopped; waiting for it to go on' : 'not connected; trying again';
      showState();
      // Browsers give up after some kinds of failure.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    };
  };
  connect();
  setInterval(showState, 1000);
  window.addEventListener('resize', () => {
    for (const [id, { plot }] of plots) plot.setSize({ width: Math.max(280, element(id).clientWidth), height: 260 });
  });
}
