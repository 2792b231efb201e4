/** Theme files and options saved from both nodes at once, by real requests of an administrator. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FontServer } from './client.mjs';
import { admin, stand } from './shared.mjs';

/** So many requests at once as both nodes have workers, but for one each that answers visitors. */
const AT_ONCE = 14;
const ROUNDS = 3;
const THEME = '/wp-content/themes/twentytwentyone';

const property = (way, round, i) => `--page-${way.replaceAll('_', '-')}-${round}-${i}--accent`;
const node = (i) => (i % 2 ? 'node-b' : 'node-a');

/** Saves that start at the same moment: all have arrived in PHP, half on each node, before the first one goes on. */
async function saveAtOnce(action, way, round) {
    const fonts = await FontServer.start();
    try {
        const saves = Array.from({ length: AT_ONCE }, (_, i) =>
            admin.save(node(i), action, { way, property: property(way, round, i), value: '#c0ffee', start: fonts.url }),
        );
        const all = Promise.all(saves);
        await Promise.race([fonts.waiting(AT_ONCE), all]);
        fonts.answer({ always: true });
        return await all;
    } finally {
        await fonts.stop();
    }
}

/** What is saved of one round. */
const kept = (text, way, round) =>
    Array.from({ length: AT_ONCE }, (_, i) => property(way, round, i)).filter((name) => text.includes(name));

/** The version of a stylesheet, or null when it is not whole: end missing, wrong length or checksum. */
function version(css) {
    const [end, number, bytes, sum] = /\/\* end version=(\d+) bytes=(\d+) sha256=([0-9a-f]{64}) \*\/\n$/.exec(css) ?? [];
    const body = Buffer.from(css).subarray(0, -Buffer.byteLength(end ?? ''));
    const whole = end && Number(bytes) === body.length && createHash('sha256').update(body).digest('hex') === sum;
    return whole ? Number(number) : null;
}

/** A visitor who reads the stylesheet until told to stop. */
class Visitor {
    reads = 0;
    torn = 0;
    old = 0;
    #going = true;

    /** @param {() => number} answered the newest version that a save has answered with */
    constructor(answered) {
        this.done = this.#read(answered);
    }

    async #read(answered) {
        while (this.#going) {
            const atLeast = answered();
            let found = null;
            try {
                found = version((await admin.get(`${THEME}/compiled/style.css`)).body);
            } catch {
                // The answer broke off: the file got shorter while nginx sent it.
            }
            this.reads++;
            this.torn += found === null ? 1 : 0;
            this.old += found !== null && found < atLeast ? 1 : 0;
        }
    }

    async stop() {
        this.#going = false;
        await this.done;
    }
}

const compiled = (file) => readFileSync(join(stand.site, THEME, 'compiled', file), 'utf8');

describe('Theme files saved on both nodes at once', () => {
    it('loses nothing under cluster_lock(), and visitors see whole files, never an old one', async () => {
        let answered = await admin.save('node-a', 'stand_compile', { way: 'cluster_lock', property: '--first', value: '1' });
        const visitors = Array.from({ length: 4 }, () => new Visitor(() => answered));
        for (let round = 0; round < ROUNDS; round++) {
            const versions = await saveAtOnce('stand_compile', 'cluster_lock', round);
            assert.equal(new Set(versions).size, AT_ONCE, 'each save has a version of its own');
            answered = Math.max(answered, ...versions);
        }
        await Promise.all(visitors.map((visitor) => visitor.stop()));
        for (let round = 0; round < ROUNDS; round++) {
            assert.equal(kept(compiled('options.json'), 'cluster_lock', round).length, AT_ONCE);
            assert.equal(kept(compiled('style.css'), 'cluster_lock', round).length, AT_ONCE);
        }
        for (const { reads, torn, old } of visitors) {
            assert.ok(reads > 0);
            assert.deepEqual({ torn, old }, { torn: 0, old: 0 }, `of ${reads} reads`);
        }
    });

    it('loses nothing under an intercepted flock()', async () => {
        for (let round = 0; round < ROUNDS; round++) {
            await saveAtOnce('stand_compile', 'flock', round);
            assert.equal(kept(compiled('options.json'), 'flock', round).length, AT_ONCE);
        }
    });

    it('loses saves and shows visitors half a file without a lock: what the tests above would see', async () => {
        const visitors = Array.from({ length: 4 }, () => new Visitor(() => 0));
        const torn = () => visitors.some((visitor) => visitor.torn > 0);
        const lost = await untilLost('stand_compile', () => compiled('options.json'), torn);
        await Promise.all(visitors.map((visitor) => visitor.stop()));
        assert.deepEqual({ lost, torn: torn() }, { lost: true, torn: true });
    });
});

describe('Options saved on both nodes at once', () => {
    const colors = async () => stand.php('echo wp_json_encode( get_option( "stand_colors" ) );');

    it('loses nothing under cluster_lock()', async () => {
        for (let round = 0; round < ROUNDS; round++) {
            await saveAtOnce('stand_option', 'cluster_lock', round);
        }
        const text = await colors();
        for (let round = 0; round < ROUNDS; round++) {
            assert.equal(kept(text, 'cluster_lock', round).length, AT_ONCE);
        }
    });

    it('publishes all of them with cluster_coalesced(), which reads them anew', async () => {
        for (let round = 0; round < ROUNDS; round++) {
            await saveAtOnce('stand_option', 'cluster_coalesced', round);
            assert.equal(kept(compiled('colors.css'), 'cluster_coalesced', round).length, AT_ONCE);
        }
    });

    it('loses saves without a lock: what the tests above would see', async () => {
        assert.ok(await untilLost('stand_option', colors));
    });
});

/** A race has no certain loser, so it is run until there is one, and what else is asked for has been seen. */
async function untilLost(action, read, also = () => true) {
    let lost = false;
    for (let round = 0; round < 40 && !(lost && also()); round++) {
        await saveAtOnce(action, 'none', round);
        lost ||= kept(await read(), 'none', round).length < AT_ONCE;
    }
    return lost;
}

describe('The theme editor on both nodes at once', () => {
    const file = 'assets/css/ie-editor.css';
    const theme = 'twentytwentyone';

    const nonce = async () => {
        const page = await admin.get(`/wp-admin/theme-editor.php?${new URLSearchParams({ file, theme })}`);
        return /name="nonce" value="(\w+)"/.exec(page.body)[1];
    };
    const edit = (on, newcontent, given) =>
        admin.post('/wp-admin/admin-ajax.php', { action: 'edit-theme-plugin-file', nonce: given, theme, file, newcontent }, { node: on });
    const onDisk = () => readFileSync(join(stand.site, THEME, file), 'utf8');

    it('leaves one of the saves, whole', async () => {
        const given = await nonce();
        // Of different lengths: a mixture would have one's start and another's end.
        const texts = Array.from({ length: AT_ONCE }, (_, i) => `/* ${i} */\n`.repeat(3000 * (AT_ONCE - i)));
        const answers = await Promise.all(texts.map((text, i) => edit(node(i), text, given)));
        for (const { status, body } of answers) {
            assert.equal(status, 200, body);
            assert.equal(JSON.parse(body).success, true, body);
        }
        assert.ok(texts.includes(onDisk()));
    });

    it('waits on one node while the lock is held elsewhere', async () => {
        const given = await nonce();
        const holder = await stand.hold(['theme-editor']);
        const before = onDisk();
        const saving = edit('node-b', '/* later */\n', given);
        await holder.waiter('theme-editor', 'node-b');
        assert.equal(onDisk(), before);
        await holder.release();
        assert.equal(JSON.parse((await saving).body).success, true);
        assert.equal(onDisk(), '/* later */\n');
    });

    it('refuses a wrong nonce', async () => {
        const answer = await edit('node-a', '/* no */\n', '0123456789');
        assert.equal(JSON.parse(answer.body).success, false);
        assert.notEqual(onDisk(), '/* no */\n');
    });
});
