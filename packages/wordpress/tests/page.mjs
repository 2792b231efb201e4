/** Tools → Cluster locks in a browser: what it shows as it happens, and the button that breaks a lock. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, beforeEach, describe, it } from 'node:test';
import { until } from '../stand/processes.mjs';
import { loggedIn, LOCKS } from './browser.mjs';
import { FontServer } from './client.mjs';
import { admin, browser, stand } from './shared.mjs';

const CSS_LOCK = 'theme-css';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const row = (page, name = CSS_LOCK) => page.locator(`#cluster-lock-table tr[data-lock=${JSON.stringify(name)}]`);
const save = (node, way, fonts) =>
    admin.save(node, 'stand_compile', { way, property: `--page-${node}--accent`, value: '#00aa00', font: fonts.url });

/** A save on node A that holds its lock, and one on node B that waits for it. */
async function heldAndAwaited(t, way = 'cluster_lock') {
    const fonts = await FontServer.start();
    t.after(() => fonts.stop());
    const onA = save('node-a', way, fonts).then((version) => ({ version }), (error) => ({ error }));
    await fonts.waiting(1);
    const onB = save('node-b', way, fonts).then((version) => ({ version }), (error) => ({ error }));
    return { fonts, onA, onB };
}

/** Waits for the next refresh of the table, twice: one may have been under way. */
async function refreshed(page) {
    const table = page.locator('#cluster-lock-table');
    const count = Number(await table.getAttribute('data-refreshed'));
    await page.waitForFunction((n) => document.querySelector('#cluster-lock-table').dataset.refreshed >= n, count + 2);
}

/** What axe finds that matters, in the part of the page that is this plugin's. */
async function violations(page) {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run('.wrap.cluster-lock'));
    return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`);
}

const SCRIPT = '<script>window.hacked = 1</script>';
const HOSTILE = [
    '<img src=x onerror="window.hacked = 1">', `"><b>${SCRIPT}`, "' onmouseover='window.hacked = 1", '<b>', '&lt;b&gt;',
    '__proto__', 'constructor', 'base64:YWJj', 'line\nbreak', '\u202Egnirts', 'ünïcode ✓', ' ', '0',
    Buffer.from([0xff, 0xfe, 0x00, 0x80]), 'x'.repeat(1024), Buffer.alloc(1024, '<"\'&'), '%s %1$s', '</textarea>',
];
const hex = (name) => Buffer.from(name).toString('hex');
/** The name of a lock, in hexadecimal, by what the page calls it. */
const bytesOf = (id) => hex(id.startsWith('base64:') ? Buffer.from(id.slice(7), 'base64') : id);
const idsOf = (page) =>
    page.locator('#cluster-lock-table tr[data-lock]').evaluateAll((rows) => rows.map((one) => one.dataset.lock));

describe('The locks page', () => {
    let page;
    let errors;

    before(async () => {
        page = await loggedIn(browser, stand);
        page.on('pageerror', (error) => errors.push(String(error)));
        page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    });
    after(() => page.context().close());
    beforeEach(async () => {
        errors = [];
        await page.goto(LOCKS);
    });

    it('is in the Tools menu', async () => {
        await page.goto('/wp-admin/tools.php');
        await page.click('#adminmenu a[href="tools.php?page=cluster-lock"]');
        await page.locator('#cluster-lock-table').waitFor();
        assert.match(await page.title(), /Cluster locks/);
    });

    it('follows holder and waiter without a reload', async (t) => {
        await page.evaluate(() => (window.sameDocument = true));
        const { fonts, onA, onB } = await heldAndAwaited(t, 'flock');
        const lock = page.locator('#cluster-lock-table tr[data-lock^="file:"]');
        await lock.locator('[data-node="node-a"]').waitFor();
        await lock.locator('[data-waiter="node-b"]').waitFor();
        assert.match(await lock.locator('.column-name').innerText(), /compiled\/style\.css\.lock/);
        assert.match(await lock.locator('.column-holder').innerText(), /node-a[^]*admin-ajax\.php/);
        const call = /stand_compile\(\) at wp-content\/mu-plugins\/theme-compiler\.php:\d+/;
        assert.match(await lock.locator('[data-node] .cluster-lock-call').innerText(), call);
        assert.match(await lock.locator('[data-waiter] .cluster-lock-call').innerText(), call);
        assert.match(await lock.locator('.column-mode').innerText(), /exclusive/i);
        const [held] = await stand.locks('file:');
        assert.equal(await lock.getAttribute('data-fence'), String(held.fence));
        assert.equal(await lock.locator('[data-node]').getAttribute('data-pid'), String(held.holders[0].pid));
        assert.equal(await lock.locator('[data-waiter]').getAttribute('data-pid'), String(held.waiters[0].pid));
        assert.match(await page.locator('#cluster-lock-summary').innerText(), /1 lock held, 1 process waiting/);

        fonts.answer({ count: 1 });
        await fonts.waiting(1); // Node B has the lock and asks for the font now.
        await lock.locator('[data-node="node-b"]').waitFor();
        assert.equal(await lock.locator('[data-node]').count(), 1);
        assert.equal(await lock.locator('[data-waiter]').count(), 0);

        fonts.answer({ always: true });
        await lock.waitFor({ state: 'detached' });
        const [a, b] = await Promise.all([onA, onB]);
        assert.equal(b.version, a.version + 1);
        assert.equal(await page.evaluate(() => window.sameDocument), true);
        assert.deepEqual(errors, []);
    });

    it('counts what waited, and draws it', async (t) => {
        const counted = async () => Number(/^\d+/.exec(await page.locator('#cluster-lock-figures').innerText()));
        const before = await counted();
        const { fonts, onA, onB } = await heldAndAwaited(t);
        await row(page).locator('[data-waiter]').waitFor();
        fonts.answer({ always: true });
        await Promise.all([onA, onB]);
        // A request counts its wait when its visitor has the answer already.
        await until('the wait is counted', async () => {
            await page.goto(LOCKS);
            return (await counted()) > before;
        });
        await page.locator('#cluster-lock-chart svg').waitFor();
    });

    it('breaks a lock after a confirmation: the waiter gets it, the former holder can write no more', async (t) => {
        const { fonts, onA, onB } = await heldAndAwaited(t);
        await row(page).locator('[data-waiter="node-b"]').waitFor();
        const fence = await row(page).getAttribute('data-fence');
        await row(page).locator('button[data-break]').click();
        const dialog = page.locator('dialog#cluster-lock-dialog');
        await dialog.waitFor();
        assert.match(await dialog.innerText(), /theme-css[^]*node-a/);
        await dialog.locator('button[data-confirm]').click();
        await fonts.waiting(2); // Node B is in the lock, while node A still waits for its font.
        await row(page).locator('[data-node="node-b"]').waitFor();
        assert.equal(await row(page).locator('[data-waiter]').count(), 0);
        assert.ok(BigInt(await row(page).getAttribute('data-fence')) > BigInt(fence));
        assert.match(await page.locator('#cluster-lock-result').innerText(), /theme-css.*broken/);
        fonts.answer({ always: true });
        const [a, b] = await Promise.all([onA, onB]);
        assert.match(String(a.error), /500/);
        assert.ok(b.version > 0);
        await row(page).waitFor({ state: 'detached' });
        assert.match(stand.phpLog, /Lock "theme-css" \(fence \d+\) was broken by user "admin"/);
    });

    for (const [how, dismiss] of [
        ['Cancel', (dialog) => dialog.locator('button[data-cancel]').click()],
        ['Escape', (dialog) => dialog.press('Escape')],
    ]) {
        it(`breaks nothing after ${how}`, async () => {
            const holder = await stand.hold([CSS_LOCK]);
            try {
                await row(page).locator('button[data-break]').click();
                const dialog = page.locator('dialog#cluster-lock-dialog');
                await dialog.waitFor();
                const [before] = await stand.locks(CSS_LOCK);
                await dismiss(dialog);
                await dialog.waitFor({ state: 'hidden' });
                await refreshed(page);
                const [after] = await stand.locks(CSS_LOCK);
                assert.equal(after.fence, before.fence);
                assert.equal(after.holders[0].pid, holder.pid);
            } finally {
                await holder.release();
            }
        });
    }

    it('can be worked with the keyboard alone', async () => {
        const holder = await stand.hold([CSS_LOCK]);
        try {
            await row(page).locator('button[data-break]').focus();
            await page.keyboard.press('Enter');
            const dialog = page.locator('dialog#cluster-lock-dialog');
            await dialog.waitFor();
            // The safe answer has the focus, and the dialog keeps it.
            assert.equal(await page.evaluate(() => document.activeElement.hasAttribute('data-cancel')), true);
            await page.keyboard.press('Shift+Tab');
            assert.equal(await page.evaluate(() => document.activeElement.hasAttribute('data-confirm')), true);
            await page.keyboard.press('Enter');
            await row(page).waitFor({ state: 'detached' });
            // What had the focus is gone; it is not lost to the top of the document.
            assert.notEqual(await page.evaluate(() => document.activeElement.tagName), 'BODY');
        } finally {
            await holder.release();
        }
    });

    it('does not break a lock that has changed hands since it was shown', async () => {
        const first = await stand.hold([CSS_LOCK]);
        await row(page).waitFor();
        await row(page).locator('button[data-break]').click();
        const dialog = page.locator('dialog#cluster-lock-dialog');
        await dialog.waitFor();
        await first.release();
        const second = await stand.hold([CSS_LOCK], { node: 'node-b' });
        try {
            await dialog.locator('button[data-confirm]').click();
            await page.locator('#cluster-lock-result:not([hidden])').waitFor();
            const [lock] = await stand.locks(CSS_LOCK);
            assert.equal(lock.holders[0].pid, second.pid);
        } finally {
            await second.release();
        }
    });

    it('stands still while it is paused', async () => {
        await page.click('#cluster-lock-pause');
        assert.equal(await page.locator('#cluster-lock-pause').getAttribute('aria-pressed'), 'true');
        const holder = await stand.hold([CSS_LOCK]);
        const other = await page.context().newPage();
        try {
            await other.goto(LOCKS);
            await refreshed(other);
            assert.equal(await row(page).count(), 0);
            await page.click('#cluster-lock-pause');
            await row(page).waitFor();
            assert.equal(await page.locator('#cluster-lock-pause').getAttribute('aria-pressed'), 'false');
        } finally {
            await other.close();
            await holder.release();
        }
    });

    it('shows names of any bytes as text, and breaks the right lock', async () => {
        const holder = await stand.hold(HOSTILE, { node: `<i>node</i>${SCRIPT}` });
        try {
            await page.waitForFunction((count) => document.querySelectorAll('#cluster-lock-table tr[data-lock]').length === count, HOSTILE.length);
            assert.equal(await page.locator('#cluster-lock-table :is(script, img, b, i, textarea)').count(), 0);
            const ids = await idsOf(page);
            assert.deepEqual(ids.map(bytesOf).sort(), HOSTILE.map(hex).sort());
            // No name makes the page wider than the window.
            assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth));
            for (const name of [HOSTILE[0], '&lt;b&gt;', HOSTILE[13], HOSTILE[14]]) {
                const id = ids.find((one) => bytesOf(one) === hex(name));
                const target = page.locator(`#cluster-lock-table tr[data-lock=${JSON.stringify(id)}]`);
                await target.locator('button[data-break]').click();
                await page.locator('dialog#cluster-lock-dialog button[data-confirm]').click();
                await target.waitFor({ state: 'detached' });
            }
            assert.equal((await stand.locks()).length, HOSTILE.length - 4);
            assert.equal(await page.evaluate(() => window.hacked), undefined);
            assert.deepEqual(errors, []);
        } finally {
            await holder.release();
        }
    });

    it('shows the same to a browser without JavaScript', async () => {
        const holder = await stand.hold(HOSTILE, { node: `<i>node</i>${SCRIPT}` });
        const plain = await loggedIn(browser, stand, { javaScriptEnabled: false });
        try {
            await plain.goto(LOCKS);
            assert.deepEqual((await idsOf(plain)).map(bytesOf).sort(), HOSTILE.map(hex).sort());
            assert.equal(await plain.locator('#cluster-lock-table :is(script, img, b, i, textarea)').count(), 0);
            const shown = await plain.locator('#cluster-lock-table .column-name code').allTextContents();
            for (const name of ['<b>', '&lt;b&gt;']) {
                assert.equal(shown.filter((text) => text === name).length, 1, name);
            }
        } finally {
            await plain.context().close();
            await holder.release();
        }
    });

    it('has no serious accessibility violation, with rows and with the question open', async (t) => {
        const holder = await stand.hold([CSS_LOCK, 'x'.repeat(500)]);
        const { fonts, onA, onB } = await heldAndAwaited(t, 'flock');
        try {
            await page.locator('#cluster-lock-table [data-waiter]').waitFor();
            assert.deepEqual(await violations(page), []);
            await row(page).locator('button[data-break]').click();
            await page.locator('dialog#cluster-lock-dialog').waitFor();
            assert.deepEqual(await violations(page), []);
            await page.keyboard.press('Escape');
            await page.setViewportSize({ width: 390, height: 800 });
            assert.deepEqual(await violations(page), []);
            assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 'no wider than a telephone');
        } finally {
            await page.setViewportSize({ width: 1280, height: 800 });
            fonts.answer({ always: true });
            await Promise.all([onA, onB]);
                await holder.release();
        }
    });
});
