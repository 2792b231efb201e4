/**
 * A lock held on one node and a waiter on the other, and a run for which two wait, photographed; then Site Health. See script/wordpress-demo.
 *
 *     node demo.mjs SCREENSHOT-DIRECTORY [--keep]
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setInterval } from 'node:timers/promises';
import { onSignal, until } from '../stand/processes.mjs';
import { Stand } from '../stand/stand.mjs';
import { launch, loggedIn, LOCKS, siteHealth } from './browser.mjs';
import { Client, FontServer } from './client.mjs';

const [screenshots, ...options] = process.argv.slice(2);
const keep = options.includes('--keep');
const heading = (text) => console.log(`\n== ${text}`);
const say = (text) => console.log(`   ${text}`);

const open = [];
async function closeAll() {
    for (const close of open.splice(0).reverse()) {
        await close();
    }
}
let interrupted = false;
onSignal(() => {
    interrupted = true;
    return closeAll();
});

async function demo() {
    heading('A WordPress site on two nodes');
    const stand = new Stand(say);
    open.push(() => stand.stop());
    await stand.start();
    say(`all of it in     ${stand.dir}`);

    heading('Two administrators press Save');
    const fonts = await FontServer.start();
    open.push(() => fonts.stop());
    const client = await Client.loggedIn(stand);
    open.push(() => client.close());
    const save = (node, value) =>
        client.save(node, 'stand_compile', { way: 'flock', property: '--page-home--accent', value, font: fonts.url });
    // One wait that is over when the page is opened, long enough for its list of slow requests.
    const first = save('node-b', '#004400');
    await fonts.waiting(1);
    const second = save('node-a', '#440000');
    await until('node A has waited for two seconds', async () => {
        const [lock] = await stand.locks('file:');
        return lock.waiters.some(({ since }) => Date.now() / 1000 - since > 2);
    });
    fonts.answer({ always: true });
    await Promise.all([first, second]);
    fonts.answer({ always: false });

    const onA = save('node-a', '#aa0000');
    await fonts.waiting(1);
    say('node A compiles the theme under flock() and waits for a web font: it holds the lock');
    const onB = save('node-b', '#0000bb');
    const color = (node, page) => {
        const form = { way: 'cluster_coalesced', property: `--page-${page}--accent`, value: '#c0ffee', font: fonts.url };
        return client.save(node, 'stand_option', form);
    };
    const colors = [color('node-b', 'home')];
    await fonts.waiting(2);
    say('node B publishes the colours in a run of cluster_coalesced(), and waits for a web font, too');
    for (const [node, page] of [['node-a', 'shop'], ['node-b', 'blog']]) {
        colors.push(color(node, page));
        await until(`${node} waits for a run`, async () => {
            const [lock] = await stand.locks('stand-colors-css');
            return lock.waiters.length === colors.length - 1;
        });
    }
    const browser = await launch();
    open.push(() => browser.close());
    const page = await loggedIn(browser, stand, { node: 'node-b' });
    await page.goto(LOCKS);
    const row = page.locator('#cluster-lock-table tr[data-lock^="file:"]');
    await row.locator('[data-node="node-a"]').waitFor();
    await row.locator('[data-waiter="node-b"]').waitFor();
    say('node B waits for the lock, two more wait for the next run, and the page says so');
    await photograph(page, 'locks.png');
    fonts.answer({ always: true });
    const versions = await Promise.all([onA, onB]);
    await Promise.all(colors);
    await page.waitForFunction(() => document.querySelector('#cluster-lock-table tr[data-lock]') === null);
    say(`released: node A has saved version ${versions[0]}, node B then ${versions[1]}, and the page is empty again`);

    heading('Site Health');
    const answers = await siteHealth(page);
    const bad = [...answers].filter(([, { status }]) => status !== 'good');
    say(`${answers.size} tests, ${answers.size - bad.length} passed`);
    for (const [test, { status, label }] of bad) {
        say(`${status}: ${test}: ${label}`);
    }
    await showPassed(page);
    await photograph(page, 'site-health.png');
    if (bad.length > 0) {
        throw new Error('Site Health is not all green');
    }
    await browser.close();

    if (keep) {
        heading('It stays until Ctrl-C');
        for (const node of ['node-a', 'node-b']) {
            say(`${node}           ${stand.url(node)}${LOCKS}`);
        }
        say(`both in turn     ${stand.url()}/`);
        say(`user             admin, password ${stand.passwords.admin}`);
        say('The certificate is the stand\'s own: your browser will ask.');
        // Until a signal ends this process.
        for await (const _ of setInterval(60_000)) {
            await stand.runScheduledEvents();
        }
    }
}

/** Opens the list of passed tests, so that they can be seen. */
async function showPassed(page) {
    await page.click('.site-health-view-passed');
    await page.locator('#health-check-issues-good').waitFor({ state: 'visible' });
}

async function photograph(page, name) {
    mkdirSync(screenshots, { recursive: true });
    const path = join(screenshots, name);
    // As high as the page, so that WordPress's menu reaches its end, too.
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.setViewportSize({ width: page.viewportSize().width, height });
    await page.screenshot({ path });
    say(`photographed     ${path}`);
}

try {
    await demo();
    await closeAll();
} catch (error) {
    // What fails after a signal fails because the servers are gone.
    if (!interrupted) {
        await closeAll();
        console.error(error.message);
        process.exitCode = 1;
    }
}
