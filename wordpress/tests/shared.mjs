/** One stand and one browser for all tests, started before the first and stopped after the last. */

import { after } from 'node:test';
import { Stand } from '../stand/stand.mjs';
import { launch } from './browser.mjs';
import { Client } from './client.mjs';

export const stand = await Stand.start();
export const browser = await launch();
export const admin = await Client.loggedIn(stand);

async function stop() {
    await browser.close();
    admin.close();
    await stand.stop();
}
after(stop, { timeout: 60_000 });
for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1 })) {
    process.once(signal, async () => {
        await stop();
        process.exit(128 + number);
    });
}
