import { Option, type Command } from 'commander';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { MotError } from '../errors.js';
import { packageRoot } from '../package.js';
import { act, oneOf, printJson } from './common.js';

interface InitFlags {
  template?: string;
  data?: string;
  schema?: 'run' | 'data';
  force?: boolean;
  json?: boolean;
}

/** Keys that follow from others, or take the place of all. */
const OMITTED = ['model.vocab', 'model.modalities', 'model.preset', 'train.preset', 'compare'];
/** Keys that data sets of one's own have no use for. */
const OF_EMOJI = ['data.prepare', 'data.diffusion'];

/** Adds `mot init`. */
export function registerInit(program: Command): void {
  program
    .command('init')
    .description('Write a config with a comment above every key, to start from.')
    .argument('[where]', 'a folder, or the .yaml file of the run config; default: the working folder')
    .addOption(new Option('--template <name>', 'the recipe whose settings it takes: start, smoke, dense, ...'))
    .option('--data <path>', 'a folder or file of documents of your own: writes the config of its data set too')
    .option('--force', 'overwrite what is there')
    .addOption(
      new Option('--schema <kind>', 'print the JSON Schema of run or data configs and write nothing').argParser(
        oneOf('--schema', ['run', 'data']),
      ),
    )
    .option('--json', 'print the files, sources and notes as JSON')
    .addHelpText(
      'after',
      `
Writes train.yaml into the folder; with --data also data.yaml, whose sources are what was found there: JSONL, WebDataset
tars, Parquet, text; where pictures or sounds have a caption of the same name beside them (a.png, a.txt), documents.jsonl
is written, which joins them. Keys that keep their default are commented out. Editors with a YAML language server complete and
check both files.

Examples:
  mot init                             train.yaml, on the embedded data
  mot init --data my-documents         data.yaml and train.yaml, on your own
  mot init experiments/tiny.yaml --template smoke
  mot init --schema run > run.schema.json`,
    )
    .action((where: string | undefined, flags: InitFlags) => act(() => init(where ?? '.', flags)));
}

async function init(where: string, { schema, json, ...options }: InitFlags): Promise<void> {
  if (schema !== undefined) {
    process.stdout.write(readFileSync(schemaFile(schema)));
    return;
  }
  const written = await writeConfigs(where, options);
  if (json) {
    printJson(written);
    return;
  }
  const { files, notes } = written;
  for (const note of notes) process.stderr.write(`${note}\n`);
  process.stdout.write(files.map((file) => `${file}\n`).join(''));
  const configs = files.filter((file) => !file.endsWith('.jsonl'));
  const next = configs.map((file, i) => `mot ${i < configs.length - 1 ? 'prepare' : 'train'} ${file}`);
  process.stderr.write(`Next: ${next.join(', then ')}\n`);
}

/**
 * Writes what `mot init` writes; the run config is the last of the files.
 *
 * @throws MotError ERR_USAGE for a wrong name, ERR_FILE_WRITE for files that are there, ERR_FILE_OPEN and ERR_DATA for
 *   data that is not.
 */
export async function writeConfigs(
  where: string,
  { template = 'start', data, force = false }: Pick<InitFlags, 'template' | 'data' | 'force'> = {},
): Promise<{ files: string[]; sources?: Record<string, unknown>[]; notes: string[] }> {
  const { readConfigFile } = await import('../config/file.js');
  const { makeFolder, writeFileAtomic } = await import('../io/files.js');
  const isFile = /\.ya?ml$/i.test(where);
  if (!isFile && path.extname(where) !== '' && !existsSync(where))
    throw new MotError('ERR_USAGE', `mot init writes YAML: give a folder or a name ending in .yaml, got ${where}.`);
  const runFile = isFile ? where : path.join(where, 'train.yaml');
  const values = readConfigFile(recipeFile(template)).value;
  values['out'] = `runs/${isFile ? path.basename(where, path.extname(where)) : 'train'}`;
  const texts: [file: string, text: string][] = [];
  const found: { sources?: Record<string, unknown>[]; notes: string[] } = { notes: [] };
  if (data !== undefined) {
    const { detectSources } = await import('../data/own/detect.js');
    const beside = (ending: string): string =>
      isFile ? where.replace(/\.ya?ml$/i, `-${ending}`) : path.join(where, ending);
    const file = beside('documents.jsonl');
    const { captioned, ...rest } = await detectSources(data, file);
    Object.assign(found, rest);
    if (captioned) {
      texts.push([file, captioned.lines.map((line) => `${line}\n`).join('')]);
      found.sources!.unshift({ jsonl: file, root: captioned.root });
    }
    const dataFile = beside('data.yaml');
    const out = datasetFolder(data);
    values['data'] = { dataset: out };
    texts.push([dataFile, await configText(dataFile, 'data', { out, sources: found.sources }, [])]);
  }
  const omit = data === undefined ? OMITTED : [...OMITTED, ...OF_EMOJI];
  texts.push([runFile, await configText(runFile, 'run', values, omit)]);
  const files = texts.map(([file]) => file);
  const there = files.filter((file) => existsSync(file));
  if (there.length > 0 && !force)
    throw new MotError(
      'ERR_FILE_WRITE',
      `${there.join(' and ')} ${there.length > 1 ? 'exist' : 'exists'}; give another name, or --force to overwrite.`,
    );
  for (const [file, text] of texts) {
    makeFolder(path.dirname(file));
    writeFileAtomic(file, text);
  }
  return { files, ...found };
}

/** A folder for the data set that is not the documents' own. */
function datasetFolder(data: string): string {
  const folder = 'data/mine';
  const apart = path.relative(path.resolve(folder), path.resolve(data));
  return apart === '' || !apart.startsWith('..') ? `${folder}-prepared` : folder;
}

/** The recipe of a name. MotError ERR_USAGE with the names that there are. */
function recipeFile(name: string): string {
  const folder = path.join(packageRoot(), 'recipes');
  const names = readdirSync(folder)
    .map((file) => path.basename(file, '.yaml'))
    // The config of a data set is what --data is for.
    .filter((recipe) => recipe !== 'own-data');
  if (!names.includes(name))
    throw new MotError('ERR_USAGE', `there is no template ${name}; choose of ${names.join(', ')}.`);
  return path.join(folder, `${name}.yaml`);
}

function schemaFile(kind: 'run' | 'data'): string {
  return path.join(packageRoot(), 'dist/lib', `${kind}.schema.json`);
}

async function configText(
  file: string,
  kind: 'run' | 'data',
  values: Record<string, unknown>,
  omit: readonly string[],
): Promise<string> {
  const { commentedYaml } = await import('../config/commented.js');
  const schema = JSON.parse(readFileSync(schemaFile(kind), 'utf8')) as Parameters<typeof commentedYaml>[0];
  const relative = path.relative(path.resolve(path.dirname(file)), schemaFile(kind));
  return [
    `# yaml-language-server: $schema=${relative.startsWith('.') ? relative : `./${relative}`}`,
    `# mot ${kind === 'run' ? 'train' : 'prepare'} ${file}`,
    '# `#key: value` shows a default; to change it take the first # away, and those of the groups that it is in.',
    '# Paths start from the working folder.',
    '',
    commentedYaml(schema, values, omit),
  ].join('\n');
}
