/// <reference lib="dom" />
// Runs in the browser: page.ts serves the text of `watchRun` as a script. It must therefore not use anything from
// outside its own body.
import type { Chart, drawCharts, Plots, UPlot } from '../report/charts.js';

/** What the server sends, whole, whenever something is new. */
export interface LiveData {
  title: string;
  /** `waiting` for the first step. */
  state: 'waiting' | 'training' | 'stopped' | 'finished';
  facts: [label: string, value: string][];
  charts: Chart[];
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
    charts = data.charts;
    draw(charts, uPlot, plots);
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
