/** wp cluster-lock, as the plugin registers it in a real WordPress. WP-CLI itself is a stand-in (unit/fixtures). */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stand } from './shared.mjs';

const WP_CLI = fileURLToPath(new URL('unit/fixtures/wp-cli.php', import.meta.url));

describe('wp cluster-lock', () => {
    const wp = (...args) => stand.script(WP_CLI, args, { env: { WORDPRESS: join(stand.site, 'wp-load.php') } });

    it('shows the status without a password', async () => {
        const output = await wp('status', '--format=json');
        assert.match(output, /127\.0\.0\.1/);
        assert.ok(!output.includes(stand.passwords.redis));
    });

    it('lists, shows and breaks a lock', async () => {
        const holder = await stand.hold(['by-hand']);
        try {
            const [row] = JSON.parse(await wp('list', '--format=json'));
            assert.equal(row.lock, 'by-hand');
            assert.match(await wp('info', 'by-hand', '--format=json'), new RegExp(`"pid":"?${holder.pid}\\b`));
            await wp('break', 'by-hand', '--yes');
            assert.deepEqual(await stand.locks('by-hand'), []);
        } finally {
            await holder.release();
        }
    });

    it('tests the way to the server', async () => {
        assert.match(await wp('test'), /Success/);
    });
});
