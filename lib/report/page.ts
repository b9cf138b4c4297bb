import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { drawCharts, type Chart } from './charts.js';

const STYLE = `
:root { --paper: #fbfaf7; --ink: #23211d; --soft: #6d685f; --rule: #e2ded4; --card: #ffffff; --good: #22803f; --bad: #b3401f; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #17181a; --ink: #e9e6df; --soft: #a09a8e; --rule: #34363a; --card: #1f2124; --good: #62c584; --bad: #f0865f; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; } h2 { font-size: 21px; margin: 44px 0 6px; }
p.note { color: var(--soft); margin: 0 0 14px; max-width: 78ch; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 12px 22px; margin: 22px 0; }
dl.facts dt { color: var(--soft); font-size: 13px; } dl.facts dd { margin: 0; font-variant-numeric: tabular-nums; font-weight: 600; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } th, td { padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 500; font-size: 14px; } .good { color: var(--good); } .bad { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 18px; } .chart { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 10px 8px; min-width: 0; overflow: hidden; }
.u-title { font-size: 15px !important; } .u-legend { font-size: 12px; } .uplot { max-width: 100%; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 16px; }
.sample { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px; min-width: 0; }
.sample h3 { margin: 0 0 10px; font-size: 15px; line-height: 1.35; overflow-wrap: anywhere; } .pictures { display: flex; flex-wrap: wrap; gap: 12px; } figure { margin: 0; }
figure img { width: 96px; height: 96px; image-rendering: pixelated; border-radius: 6px; display: block; } figcaption { font-size: 12px; color: var(--soft); margin-top: 3px; }
.sample p { margin: 10px 0 0; font-size: 14px; overflow-wrap: anywhere; } .sample p b, .sound span { color: var(--soft); font-weight: 400; font-size: 12px; }
.sound { display: flex; align-items: center; gap: 8px; margin-top: 6px; } .sound span { width: 84px; flex: none; } audio { height: 30px; width: 100%; min-width: 0; }
details { margin-top: 44px; } pre { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px; overflow: auto; font-size: 13px; }
ul.attribution { color: var(--soft); font-size: 14px; padding-left: 18px; } a { color: inherit; }
`;

/** Text into HTML. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** JSON that cannot end the script element it stands in. */
function scriptJson(value: unknown): string {
  return JSON.stringify(value).replace(/</g, '\\u003c');
}

/** Labels and values in a grid. */
export function factList(facts: readonly (readonly [label: string, value: string])[]): string {
  const items = facts.map(([label, value]) => `<div><dt>${escapeHtml(label)}</dt><dd>${escapeHtml(value)}</dd></div>`);
  return `<dl class="facts">${items.join('')}</dl>`;
}

/** Script (uPlot) and style of every page. */
export function pageAssets(): { script: string; style: string } {
  const uplot = path.dirname(createRequire(import.meta.url).resolve('uplot'));
  return {
    script: readFileSync(path.join(uplot, 'uPlot.iife.min.js'), 'utf8'),
    style: readFileSync(path.join(uplot, 'uPlot.min.css'), 'utf8') + STYLE,
  };
}

/**
 * One self-contained page: no script, style, picture or sound comes from anywhere else.
 *
 * @param body HTML of the page's content, with an element for the id of each chart.
 */
export function renderPage(title: string, body: string, charts: readonly Chart[]): string {
  const { script, style } = pageAssets();
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title><style>${style}</style></head><body><main>
${body}
</main><script>${script}</script><script>(${drawCharts.toString()})(${scriptJson(charts)}, uPlot)</script></body></html>
`;
}
