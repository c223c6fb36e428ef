// Builds dist/ for the package: from src/ types by the compiler, and code in a few bundled files, because a short command spent
// most of its time on finding and loading a hundred; from web/ the dashboard. The old dist/ is removed first, so that no file
// outlives its source. Quiet on success: `npm pack` calls it, and its stdout belongs to npm's caller.
import { spawnSync } from 'node:child_process';
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'rolldown';
import { buildWeb } from './web.ts';

const root = join(import.meta.dirname, '..');
const bin = join(root, 'dist/surface/bin.js');

rmSync(join(root, 'dist'), { recursive: true, force: true });
const tsc = spawnSync(process.execPath, [join(root, 'node_modules/typescript7/bin/tsc'), '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit' });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);

await build({
  input: { index: join(root, 'src/index.ts'), testing: join(root, 'src/testing.ts'), 'surface/bin': join(root, 'src/surface/bin.ts') },
  platform: 'node',
  // Node's own modules and the dependencies stay what they are.
  external: /^[^./]/,
  // The names of chunks have two levels, as the sources have: what a module finds beside the package it finds from either.
  output: { dir: join(root, 'dist'), format: 'esm', sourcemap: true, chunkFileNames: 'chunks/[name]-[hash].js' },
  logLevel: 'warn',
});

await buildWeb(join(root, 'dist/web'));

// npm makes a bin executable on install; whoever links dist/ straight from a checkout needs it here.
if (!readFileSync(bin, 'utf8').startsWith('#!/usr/bin/env node\n')) {
  console.error('build: dist/surface/bin.js does not start with "#!/usr/bin/env node", so a shell could not run it. Next: make that the first line of src/surface/bin.ts.');
  process.exit(1);
}
chmodSync(bin, 0o755);
