// Builds the dashboard from web/ into a folder: the package's dist/web, or one of a test.
import { join } from 'node:path';
import { build } from 'vite';

export async function buildWeb(folder: string): Promise<void> {
  await build({
    root: join(import.meta.dirname, '..', 'web'),
    configFile: false,
    logLevel: 'warn',
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
    // The page may load nothing but files of its server: no inlined picture, no script in the page.
    build: { outDir: folder, emptyOutDir: true, assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  });
}
