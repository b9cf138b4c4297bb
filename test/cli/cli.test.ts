import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { alter, goldenPath } from '../verify/golden_files.js';

const cli = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function mot(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: folder });
  return { status, stdout, stderr };
}

function config(text: string): string {
  const path = join(folder, 'config.yaml');
  writeFileSync(path, text);
  return path;
}

const model = 'model: {d_model: 32, n_layers: 1, n_heads: 4, head_dim: 8, ffn_dim: 48}\n';

describe('help', () => {
  const commands = [
    'init',
    'train',
    'watch',
    'verify',
    'describe',
    'doctor',
    'start',
    'prepare',
    'generate',
    'eval',
    'report',
    'bench',
  ];
  test('lists the commands, and each has examples', () => {
    const { status, stdout } = mot('--help');
    expect(status).toBe(0);
    for (const command of commands) {
      expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
      const help = mot(command, '--help');
      expect(help.status).toBe(0);
      expect(help.stdout).toMatch(/Examples?:/);
    }
  });

  test('needs no addon and no data package', () => {
    const script = `
      process.dlopen = () => { throw new Error('the addon was loaded'); };
      process.argv.splice(1, Infinity, 'mot', '--help');
      await import(${JSON.stringify(cli)});`;
    const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

describe('wrong usage exits 2 with a sentence', () => {
  test.each([
    [['train', 'x.yaml', '--watch', '70000'], /a port is at most 65535/],
    [['trian'], /Did you mean train/],
    [['train'], /missing required argument 'config'/],
    [['train', 'x.yaml', '--nope'], /unknown option '--nope'/],
    [['verify', '--device', 'gpu'], /--device must be cpu or reference, got gpu/],
    [['bench', 'gem'], /there is no suite gem; choose of limits gemm/],
    [['bench', 'step', '--tokens', '8'], /--tokens belongs to --preset/],
    [['bench', 'step', '--preset', 'emoji-tin'], /there is no preset emoji-tin; did you mean emoji-tiny\?/],
    [['verify', '--threads', '-1'], /--threads must be a whole number/],
    [['verify', '--out', 'x', 'a', 'b'], /--out takes the results of one FILE/],
  ])('mot %j', (args, message) => {
    const { status, stderr } = mot(...args);
    expect({ status, stderr }).toMatchObject({ status: 2, stderr: expect.stringMatching(message) });
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test('an override that is none', () => {
    expect(mot('train', config(model), 'lr')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('key=value'),
    });
  });
});

describe('bad configs exit 1 with code and place', () => {
  test.each<[string, string[], RegExp]>([
    [
      `${model}train: {stesp: 3}\n`,
      [],
      /config\.yaml:2: unknown key train\.stesp; did you mean steps\?.*\[ERR_CONFIG\]/,
    ],
    [model, ['train.lrr=1'], /override train\.lrr: unknown key train\.lrr; did you mean lr\?/],
    [model, ['model.n_kv_heads=3'], /multiple of n_kv_heads/],
    [model, ['model.head_dim=12'], /head_dim must be a multiple of 8/],
    [model, ['model.modalities=[Text]'], /cannot name a modality/],
    [model, ['model.experts={txt: 4}'], /experts .*"txt".*text/],
    [
      model,
      ['model.experts={text: {count: 4, routing: token_choice, top_k: 5}}'],
      /top_k must be at most count, 4, got 5/,
    ],
    [model, ['data.prepare.concept=3'], /did you mean concepts/],
    ['model: [1', [], /config\.yaml:1:\d+: not valid YAML/],
  ])('%j %j', (text, overrides, message) => {
    const { status, stderr } = mot('train', config(text), ...overrides);
    expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringMatching(message) });
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test('a config that is not there', () => {
    expect(mot('train', 'none.yaml')).toMatchObject({ status: 1, stderr: expect.stringContaining('ERR_FILE_OPEN') });
  });
});

describe('verify', () => {
  test('0 when all is well, with JSON on demand', () => {
    expect(mot('verify', goldenPath('dense'))).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('1 file verified'),
    });
    const { status, stdout } = mot('verify', goldenPath('dense'), '--json', '--device', 'reference', '--threads', '1');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ passed: true, results: [{ device: 'reference', threads: 1 }] });
  });

  test('1 for an altered number, which it names', () => {
    const path = join(folder, 'altered.safetensors');
    alter(goldenPath('dense'), path, 'g.embed_tokens.weight', 40, (value) => value + 0.01);
    const { status, stdout } = mot('verify', path, goldenPath('dense'));
    expect(status).toBe(1);
    expect(stdout).toMatch(/^X +g\.embed_tokens\.weight .*element 40/m);
    expect(stdout).toContain('1 of 2 files FAILED');
  });

  test('1 for a file that it cannot read; the others are still verified', () => {
    const broken = join(folder, 'broken.safetensors');
    writeFileSync(broken, 'no tensors');
    const { status, stdout, stderr } = mot('verify', broken, goldenPath('dense'));
    expect(status).toBe(1);
    expect(stderr).toMatch(/broken\.safetensors.*ERR_FILE_FORMAT/);
    expect(stdout).toContain('passed');
  });
});

describe('describe', () => {
  const data = 'data: {prepare: {text_vocabulary: 300, image_codes: 16, speech_units: 20}}\n';
  interface Described {
    model: Record<string, unknown>;
    parameters: { total: number };
    arenaBytes: number;
    memory: { dtype: string; checkpointing: string; arenaBytes: number }[];
    plan: unknown[];
  }

  test('a config: parameters, memory, FLOPs, in 100 columns; the plan on demand', () => {
    const { status, stdout } = mot('describe', config(`${model}${data}`), '--plan');
    expect(status).toBe(0);
    const [first] = stdout.split('\n  tensor ');
    for (const part of [/^ {2}speech +\d/m, /MFLOP forward/, /^ {2}train\.checkpointing .* none\* /m, /sequences in/])
      expect(first).toMatch(part);
    expect(Math.max(...first!.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
    expect(stdout).toMatch(/^ {2}d_qkv +gradients of activations +BF16 +\[8192, 96\]/m);
  });

  test('the same as JSON', () => {
    const described = JSON.parse(mot('describe', config(`${model}${data}`), '--json').stdout) as Described;
    expect(described.model).toMatchObject({ d_model: 32, modalities: ['text', 'image', 'speech'] });
    expect(described.memory).toHaveLength(6);
    const set = described.memory.find(({ dtype, checkpointing }) => dtype === 'bf16' && checkpointing === 'none');
    expect(set!.arenaBytes).toBe(described.arenaBytes);
    expect(described.plan.length).toBeGreaterThan(20);
    const averaging = mot('describe', config(`${model}${data}`), 'train.ema_decay=0.999').stdout;
    expect(averaging).toMatch(/^ {2}averaged weights +decay 0\.999$/m);
    expect(averaging).toMatch(/^ {2}averaged weights +\d[\d.]+ .B /m);
    const rates = 'train.rates=[{ scale: 0 }, { tower: text, part: mlp, scale: 0.1 }]';
    const scaled = mot('describe', config(`${model}${data}`), rates).stdout;
    expect(scaled).toMatch(/^ {2}rates by place +all frozen; text mlp at 0\.1 of lr$/m);
  });

  test('a preset with overrides, larger than any machine that tests run on', () => {
    const { status, stdout } = mot('describe', 'chameleon-7b-mot', 'train.seq_len=1024', 'model.vocab=65536');
    expect({ status, stdout }).toMatchObject({ status: 0, stdout: expect.stringMatching(/in all +13,489,430,528/) });
    expect(stdout).toContain('768 x 1024 tokens, 1 at once');
  });

  test('a preset with patches, and what they meet', () => {
    const { parameters, model: described } = JSON.parse(mot('describe', 'transfusion-163m-dense', '--json').stdout) as {
      model: { diffusion: unknown };
      parameters: { active: Record<string, number>; embedding: number; head: number; total: number };
    };
    expect(described.diffusion).toEqual({
      modality: 'image',
      patch_dim: 32,
      steps: 1000,
      weight: 5,
      prediction: 'noise',
    });
    // Patches in (with bias) and out, and two layers for the timestep.
    const diffusion = 768 * 33 + 32 * 769 + 2 * 768 * 769;
    const { active, embedding, head, total } = parameters;
    expect(active).toEqual({ text: total - diffusion, image: total - embedding - head });
    expect(Math.round(total / 1e6)).toBe(164);
  });

  test('a run folder', () => {
    mkdirSync(join(folder, 'run'), { recursive: true });
    writeFileSync(join(folder, 'run', 'config.yaml'), `${model}${data}`);
    expect(mot('describe', 'run')).toMatchObject({ status: 0, stdout: expect.stringContaining('d_model 32') });
  });

  test('lists the presets', () => {
    const { stdout } = mot('describe');
    expect(stdout).toMatch(/^chameleon-443m +1024 \/ 24 \/ 16 +1,572,864 +160,000$/m);
    const listed = JSON.parse(mot('describe', '--json').stdout) as { name: string }[];
    expect(listed.map(({ name }) => name)).toContain('emoji-small');
  });

  test('what is neither', () => {
    expect(mot('describe', 'chameleon-44m')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/chameleon-44m is no preset, file or run folder; did you mean/),
    });
    expect(mot('describe', 'none.yaml')).toMatchObject({ status: 1, stderr: expect.stringContaining('ERR_FILE_OPEN') });
  });
});

test('doctor says what is used', () => {
  const { status, stdout } = mot('doctor', '--json');
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    node: process.version,
    threads: expect.any(Number),
    instructions: expect.any(String),
    'embedded data': expect.stringMatching(/can be prepared|npm install/),
    onnx: expect.stringMatching(/onnxruntime-node/),
  });
});

test('doctor and describe warn of a job that fits no machine', () => {
  // Six hundred thousand million parameters.
  const job = ['chameleon-speech-7b', 'model.n_layers=1000'];
  const tooMuch = /warning: training needs .* TB of memory.*\nwarning: up to 3 checkpoints of .* TB/;
  for (const command of ['doctor', 'describe'])
    expect(mot(command, ...job)).toMatchObject({ status: 0, stderr: expect.stringMatching(tooMuch) });
  const { stdout } = mot('doctor', ...job, '--json');
  expect((JSON.parse(stdout) as { job: string[] }).job).toHaveLength(2);
  const recipe = fileURLToPath(new URL('../../../recipes/smoke.yaml', import.meta.url));
  const small = mot('doctor', recipe, 'model.d_model=16', 'train.micro_sequences=1');
  expect(small).toMatchObject({ status: 0, stderr: '', stdout: expect.stringContaining(`${recipe} fits`) });
});
