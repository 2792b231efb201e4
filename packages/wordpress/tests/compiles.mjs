/** One compile for all who save: two administrators, one on each node, who press Save seven times each. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { until } from '../stand/processes.mjs';
import { COMPILER, loggedIn, LOCKS } from './browser.mjs';
import { FontServer } from './client.mjs';
import { admin, browser, stand } from './shared.mjs';

/** A node has one worker more, for what else is asked meanwhile. */
const EACH = 7;
const AT_ONCE = 2 * EACH;
const WP_CLI = fileURLToPath(new URL('unit/fixtures/wp-cli.php', import.meta.url));

const compiled = (file) => readFileSync(join(stand.site, 'wp-content/themes/twentytwentyone/compiled', file), 'utf8');
const property = (way, i) => `--${way.replaceAll('_', '-')}-${i}--accent`;
const kept = (text, way) => Array.from({ length: AT_ONCE }, (_, i) => property(way, i)).filter((name) => text.includes(name)).length;

describe('Fourteen saves at once, on two nodes', () => {
    let pages;
    let start;
    let fonts;

    before(async () => {
        [start, fonts] = [await FontServer.start(), await FontServer.start()];
        pages = await Promise.all(['node-a', 'node-b'].map((node) => loggedIn(browser, stand, { node })));
    });
    after(async () => {
        await Promise.all([...pages.map((page) => page.context().close()), start.stop(), fonts.stop()]);
    });

    const figure = async (page, name) => Number(await page.locator(`#stand-${name}`).innerText());
    const compiles = async () => {
        await Promise.all(pages.map((page) => page.goto(COMPILER)));
        const [a, b] = await Promise.all(pages.map((page) => figure(page, 'compiles')));
        assert.equal(a, b, 'both nodes count the same');
        return a;
    };

    /** Presses Save; all have arrived in PHP before the first one goes on. */
    async function press(way) {
        let i = 0;
        for (const page of pages) {
            await page.locator('[name=way]').selectOption(way);
            await page.locator('[name=start]').fill(start.url);
            await page.locator('[name=font]').fill(fonts.url);
            for (let n = 0; n < EACH; n++) {
                await page.locator('[name=property]').fill(property(way, i++));
                await page.locator('#stand-form button').click();
            }
        }
        await start.waiting(AT_ONCE);
        start.answer();
    }

    async function done() {
        for (const page of pages) {
            await page.waitForFunction((count) => Number(document.querySelector('#stand-done').value) === count, EACH);
            assert.deepEqual([await figure(page, 'asked'), await figure(page, 'failed')], [EACH, 0]);
        }
    }

    it('are served by two compiles of cluster_file_build(), and nothing is lost', async () => {
        const before = await compiles();
        await press('cluster_file_build');
        // One compiles; what the others have saved until it is done is for the second one.
        await fonts.waiting(1);
        const lock = async () => (await stand.locks('file:')).find(({ name }) => name.endsWith('compiled/style.css'));
        await until('all others wait for a run', async () => (await lock())?.waiters.length === AT_ONCE - 1);
        await reported((await lock()).name);
        fonts.answer({ always: true });
        await done();
        fonts.answer({ always: false });
        assert.equal(kept(compiled('options.json'), 'cluster_file_build'), AT_ONCE);
        assert.equal(kept(compiled('style.css'), 'cluster_file_build'), AT_ONCE);
        assert.equal((await compiles()) - before, 2);
    });

    /** Who runs, who waits for a run, and the code of each: by REST, on the locks page, and on the command line. */
    async function reported(name) {
        const file = join(stand.site, 'wp-content/mu-plugins/theme-compiler.php');
        const line = 1 + readFileSync(file, 'utf8').split('\n').findIndex((text) => text.includes('! cluster_file_build('));
        const call = { run: true, function: 'stand_build', file, line };
        const { json } = await admin.rest('GET', `cluster-lock/v1/locks?prefix=${encodeURIComponent(name)}`);
        const [{ holders, waiters }] = json.locks;
        assert.deepEqual([holders.length, waiters.length], [1, AT_ONCE - 1]);
        for (const who of [...holders, ...waiters]) {
            assert.deepEqual({ run: who.run, function: who.function, file: who.file, line: who.line }, call);
        }

        const page = await loggedIn(browser, stand);
        await page.goto(LOCKS);
        const row = page.locator(`#cluster-lock-table tr[data-lock=${JSON.stringify(name)}]`);
        const text = `stand_build() at wp-content/mu-plugins/theme-compiler.php:${line}`;
        assert.equal(await row.locator('.column-mode').innerText(), 'Exclusive, for a run');
        assert.equal(await row.locator('[data-node] .cluster-lock-call').innerText(), text);
        const shown = await row.locator('[data-waiter]').allInnerTexts();
        assert.equal(shown.length, 10, 'and the others are counted');
        for (const waiter of shown) {
            assert.ok(/, for a run, for /.test(waiter) && waiter.endsWith(text), waiter);
        }
        assert.match(await row.locator('.column-waiters').innerText(), /and 3 more$/);
        await page.context().close();

        const env = { WORDPRESS: join(stand.site, 'wp-load.php') };
        const [listed] = JSON.parse(await stand.script(WP_CLI, ['list', name, '--format=json'], { env }));
        assert.deepEqual([listed.run, listed.call, listed.waiting], ['yes', `stand_build() at ${file}:${line}`, AT_ONCE - 1]);
    }

    it('cost a compile each under a lock', async () => {
        const before = await compiles();
        fonts.answer({ always: true });
        await press('cluster_lock');
        await done();
        assert.equal(kept(compiled('options.json'), 'cluster_lock'), AT_ONCE);
        assert.equal((await compiles()) - before, AT_ONCE);
    });
});
