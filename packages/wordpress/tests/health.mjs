/** Site Health, and the site itself, when something is wrong. */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { loggedIn, LOCKS, SITE_HEALTH, siteHealth } from './browser.mjs';
import { admin, browser, stand } from './shared.mjs';

const OURS = ['extension', 'content', 'limits', 'server', 'eviction', 'database'].map((name) => `cluster_lock_${name}`);

describe('Site Health', () => {
    let page;

    before(async () => (page = await loggedIn(browser, stand)));
    after(() => page.context().close());

    const status = async (test, from = page) => (await siteHealth(from)).get(test)?.status;

    it('is all green on a stand where nothing is wrong', async () => {
        const answers = await siteHealth(page);
        for (const test of OURS) {
            assert.equal(answers.get(test)?.status, 'good', test);
        }
        const bad = [...answers].filter(([, answer]) => answer.status !== 'good');
        assert.deepEqual(bad, []);
    });

    it('is red when the server may evict locks', async () => {
        await stand.redis('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru', 'maxmemory', '100mb');
        try {
            assert.equal(await status('cluster_lock_eviction'), 'critical');
        } finally {
            await stand.redis('CONFIG', 'SET', 'maxmemory-policy', 'noeviction', 'maxmemory', '0');
        }
        assert.equal(await status('cluster_lock_eviction'), 'good');
    });

    it('is not green when something else is in the database of the locks', async () => {
        await stand.redis('SET', 'wp_cache:options:alloptions', 'somebody else');
        try {
            assert.notEqual(await status('cluster_lock_database'), 'good');
        } finally {
            await stand.redis('DEL', 'wp_cache:options:alloptions');
        }
        assert.equal(await status('cluster_lock_database'), 'good');
    });

    it('says which right is missing when the user of the locks may not ask', async () => {
        await stand.redis('ACL', 'SETUSER', 'cluster_lock', '-info');
        try {
            assert.equal(await status('cluster_lock_eviction'), 'recommended');
            assert.match(await page.locator('#health-check-accordion-block-cluster_lock_eviction').textContent(), /\+info/);
        } finally {
            await stand.redis('ACL', 'SETUSER', 'cluster_lock', '+info');
        }
    });

    it('is red when a free lock can be had, and nobody could wait for one', async () => {
        await stand.redis('ACL', 'SETUSER', 'cluster_lock', '-blpop');
        try {
            assert.equal(await status('cluster_lock_server'), 'critical');
            const why = await page.locator('#health-check-accordion-block-cluster_lock_server').textContent();
            assert.match(why, /'blpop'.*ACL line/);
        } finally {
            await stand.redis('ACL', 'SETUSER', 'cluster_lock', '+blpop');
        }
    });

    it('is not green when leases and time limits contradict each other', async () => {
        const node = await stand.startNode('node-c', { ini: { 'cluster_lock.ttl': 2, 'cluster_lock.command_timeout': 5 } });
        const other = await loggedIn(browser, stand, { node: 'node-c' });
        try {
            assert.notEqual(await status('cluster_lock_limits', other), 'good');
            assert.match(await other.locator('[id$=cluster_lock_limits]').first().textContent(), /command_timeout/);
        } finally {
            await other.context().close();
            await node.stop();
        }
    });

    it('has an Info section without a password', async () => {
        await page.goto(`${SITE_HEALTH}?tab=debug`);
        const section = page.locator('#health-check-accordion-block-cluster-lock');
        assert.match(await section.textContent(), /redis:\/\/.*127\.0\.0\.1/);
        const copied = await page.locator('.copy-button').first().getAttribute('data-clipboard-text');
        assert.match(copied, /cluster-lock/);
        for (const text of [await page.content(), copied]) {
            assert.ok(!text.includes(stand.passwords.redis));
        }
    });
});

describe('Without Redis', () => {
    let page;

    before(async () => {
        page = await loggedIn(browser, stand);
        await page.goto(LOCKS);
        await stand.stopRedis();
    });
    after(async () => {
        if (!stand.redisServer.running) {
            await stand.startRedis();
        }
        await page.context().close();
    });

    it('the page says so without a reload', async () => {
        await page.locator('#cluster-lock-error').waitFor({ state: 'visible' });
        assert.match(await page.locator('#cluster-lock-error').innerText(), /127\.0\.0\.1/);
        assert.ok(!(await page.content()).includes(stand.passwords.redis));
    });

    it('the page says so when it is loaded', async () => {
        const answer = await admin.get(LOCKS);
        assert.equal(answer.status, 200);
        assert.match(answer.body, /id="cluster-lock-error"[^>]*>(?!<p><\/p>)/);
    });

    it('Site Health is red', async () => {
        const other = await loggedIn(browser, stand, { node: 'node-b' });
        const answers = await siteHealth(other);
        assert.equal(answers.get('cluster_lock_server')?.status, 'critical');
        assert.notEqual(answers.get('cluster_lock_eviction')?.status, 'good');
        await other.context().close();
    });

    it('the site serves, and an administrator can save', async () => {
        for (const node of ['node-a', 'node-b']) {
            assert.equal((await admin.get('/', { node })).status, 200);
            assert.equal((await admin.get('/wp-admin/', { node })).status, 200);
            // Intercepted, in "gate": the kernel's lock alone.
            const form = { way: 'flock', property: '--no-redis', value: '1' };
            assert.ok((await admin.save(node, 'stand_compile', form)) > 0);
        }
    });

    it('the page goes on by itself when Redis is back', async () => {
        await stand.startRedis();
        await page.locator('#cluster-lock-error').waitFor({ state: 'hidden' });
        const holder = await stand.hold(['back']);
        await page.locator('#cluster-lock-table tr[data-lock="back"]').waitFor();
        await holder.release();
    });
});

describe('Without the extension', () => {
    let node;
    let page;

    before(async () => {
        node = await stand.startNode('node-c', { extension: false });
        page = await loggedIn(browser, stand, { node: 'node-c' });
    });
    after(async () => {
        await page.context().close();
        await node.stop();
    });

    it('visitors and administrators notice nothing', async () => {
        for (const path of ['/', '/wp-admin/', '/wp-admin/themes.php', '/wp-admin/options-general.php', SITE_HEALTH]) {
            assert.equal((await admin.get(path, { node: 'node-c' })).status, 200, path);
        }
        const form = { way: 'flock', property: '--no-extension', value: '1' };
        assert.ok((await admin.save('node-c', 'stand_compile', form)) > 0);
    });

    it('Site Health recommends it', async () => {
        const answers = await siteHealth(page);
        assert.equal(answers.get('cluster_lock_extension')?.status, 'recommended');
        assert.equal(answers.has('cluster_lock_server'), false);
    });

    it('the page and the REST routes say why there is nothing to see', async () => {
        await page.goto(LOCKS);
        assert.match(await page.locator('#cluster-lock-error').innerText(), /not loaded/);
        const answer = await admin.rest('GET', 'cluster-lock/v1/locks', { node: 'node-c' });
        assert.equal(answer.status, 501);
    });
});

describe('PHP\'s error log', () => {
    it('has no fatal error', () => assert.doesNotMatch(stand.phpLog, /PHP (Fatal|Parse) error/));

    it('has no complaint about the plugin', () => {
        const lines = stand.phpLog.split('\n').filter((line) => /PHP .*mu-plugins\/(cluster-lock|theme-compiler|stand)/.test(line));
        const expected = /cluster_lock|cluster_unlock|cluster_file_put_contents|flock|file_put_contents/;
        assert.deepEqual(lines.filter((line) => !expected.test(line)), []);
    });
});
