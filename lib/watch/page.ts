import { drawCharts } from '../report/charts.js';
import { pageAssets } from '../report/page.js';
import { watchRun } from './client.js';

/** A file of the live page. */
export interface PageFile {
  type: string;
  body: string;
}

/** All files of the live page by their path; what changes comes as events. */
export function livePage(): ReadonlyMap<string, PageFile> {
  const { script, style } = pageAssets();
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>mot</title><link rel="icon" href="data:,"><link rel="stylesheet" href="live.css"></head><body><main>
<h1 id="title">mot</h1><p class="note" id="state" role="status">connecting</p>
<dl class="facts" id="facts"></dl><div class="charts" id="charts"></div>
<h2 id="samples-title"></h2><div class="samples" id="samples"></div>
</main><script src="live.js"></script></body></html>
`;
  return new Map([
    ['/', { type: 'text/html; charset=utf-8', body: html }],
    ['/live.css', { type: 'text/css; charset=utf-8', body: style }],
    [
      '/live.js',
      {
        type: 'text/javascript; charset=utf-8',
        body: `${script}\n(${watchRun.toString()})(${drawCharts.toString()}, uPlot);\n`,
      },
    ],
  ]);
}
