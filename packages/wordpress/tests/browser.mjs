/** Debian's Chromium without a window. */

import { chromium } from 'playwright-core';
import { which } from '../stand/processes.mjs';
import { Client } from './client.mjs';

export async function launch() {
    return chromium.launch({
        executablePath: process.env.CHROMIUM || which('chromium', 'chromium-browser', 'google-chrome'),
        args: [
            // Chromium's own sandbox refuses to work for root; it sees the stand's pages only.
            ...(process.getuid() === 0 ? ['--no-sandbox'] : []),
            '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-dev-shm-usage',
        ],
        // Who started it stops it, when its own servers are stopped, too.
        handleSIGINT: false,
        handleSIGTERM: false,
        handleSIGHUP: false,
    });
}

/** A browser window in which somebody is logged in. */
export async function loggedIn(browser, stand, { user = 'admin', node = 'node-a', javaScriptEnabled = true } = {}) {
    const context = await browser.newContext({
        baseURL: stand.url(node),
        ignoreHTTPSErrors: true,
        javaScriptEnabled,
        reducedMotion: 'reduce',
        viewport: { width: 1280, height: 800 },
    });
    context.setDefaultTimeout(60_000);
    // Not by the login page, whose script takes the focus away from whoever types at once.
    const client = await Client.loggedIn(stand, user);
    await context.addCookies(client.cookies.map((cookie) => ({ ...cookie, url: stand.url(node) })));
    client.close();
    const page = await context.newPage();
    return page;
}

export const LOCKS = '/wp-admin/tools.php?page=cluster-lock';
export const COMPILER = '/wp-admin/themes.php?page=stand-compiler';
export const SITE_HEALTH = '/wp-admin/site-health.php';

/** Opens Site Health and returns what it says of each test, when all have answered: {test, status, label}. */
export async function siteHealth(page) {
    const answers = new Map();
    await page.goto(SITE_HEALTH);
    await page.waitForFunction(() => {
        const { SiteHealth, jQuery } = window;
        return SiteHealth?.site_status.async.every((test) => test.completed) && jQuery.active === 0;
    });
    for (const status of ['critical', 'recommended', 'good']) {
        const buttons = await page.locator(`#health-check-issues-${status} button.health-check-accordion-trigger`).all();
        for (const button of buttons) {
            const test = (await button.getAttribute('aria-controls')).replace('health-check-accordion-block-', '');
            answers.set(test, { status, label: (await button.locator('.title').innerText()).trim() });
        }
    }
    return answers;
}
