/** Who may see and break locks: nobody but administrators, and only with the nonce of their session. */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { LOCKS } from './browser.mjs';
import { Client } from './client.mjs';
import { admin, stand } from './shared.mjs';

const ROUTES = [
    ['GET', 'cluster-lock/v1/locks'],
    ['GET', 'cluster-lock/v1/waits'],
    ['POST', 'cluster-lock/v1/break'],
];

describe('Access to the locks', () => {
    let visitor;
    let subscriber;
    let holder;
    let lock;

    before(async () => {
        visitor = new Client(stand);
        subscriber = await Client.loggedIn(stand, 'subscriber');
        holder = await stand.hold(['access']);
        [lock] = await stand.locks('access');
    });
    after(async () => {
        visitor.close();
        subscriber.close();
        await holder.release();
    });

    const form = () => ({ lock: 'access', fence: String(lock.fence) });
    const stillHeld = async () => assert.equal((await stand.locks('access'))[0]?.fence, lock.fence);

    it('is an administrator\'s', async () => {
        const answer = await admin.rest('GET', 'cluster-lock/v1/locks');
        assert.equal(answer.status, 200);
        assert.deepEqual(answer.json.locks.map(({ name }) => name), ['access']);
        assert.match(answer.headers['cache-control'], /no-(cache|store)/);
        assert.equal((await admin.get(LOCKS)).status, 200);
    });

    for (const [method, route] of ROUTES) {
        it(`is not a visitor's: ${method} ${route}`, async () => {
            assert.equal((await visitor.rest(method, route, { nonce: null, form: form() })).status, 401);
            await stillHeld();
        });
        it(`is not a subscriber's: ${method} ${route}`, async () => {
            assert.equal((await subscriber.rest(method, route, { form: form() })).status, 403);
            await stillHeld();
        });
        it(`needs a nonce: ${method} ${route}`, async () => {
            assert.equal((await admin.rest(method, route, { nonce: null, form: form() })).status, 401);
            assert.equal((await admin.rest(method, route, { nonce: '0123456789', form: form() })).status, 403);
            await stillHeld();
        });
    }

    it('does not take another user\'s nonce', async () => {
        const { body } = await subscriber.get('/wp-admin/admin-ajax.php?action=rest-nonce');
        assert.equal((await admin.rest('POST', 'cluster-lock/v1/break', { nonce: body, form: form() })).status, 403);
        await stillHeld();
    });

    it('hides the page from subscribers, and sends visitors to the login', async () => {
        const answer = await subscriber.get(LOCKS);
        assert.equal(answer.status, 403);
        assert.doesNotMatch(answer.body, /cluster-lock-table/);
        assert.doesNotMatch((await subscriber.get('/wp-admin/profile.php')).body, /page=cluster-lock/);
        assert.equal((await visitor.get(LOCKS)).status, 302);
    });

    it('refuses what makes no sense', async () => {
        const ask = (fields) => admin.rest('POST', 'cluster-lock/v1/break', { form: fields });
        assert.equal((await ask({})).status, 400);
        assert.equal((await ask({ lock: 'access' })).status, 400);
        assert.equal((await ask({ lock: 'access', fence: 'x' })).status, 400);
        assert.equal((await ask({ lock: 'base64:***', fence: '1' })).status, 400);
        assert.equal((await ask({ lock: 'x'.repeat(2000), fence: '1' })).status, 400);
        assert.equal((await ask({ lock: 'nobody has it', fence: '1' })).status, 404);
        assert.equal((await ask({ lock: 'access', fence: '1' })).status, 409);
        await stillHeld();
    });

    it('is an administrator\'s to break', async () => {
        const answer = await admin.rest('POST', 'cluster-lock/v1/break', { form: form() });
        assert.equal(answer.status, 200);
        assert.equal(answer.json.broken, true);
        assert.deepEqual(await stand.locks('access'), []);
    });
});
