/** One stand and one browser for all tests, started before the first and stopped after the last. */

import { after } from 'node:test';
import { onSignal } from '../stand/processes.mjs';
import { Stand } from '../stand/stand.mjs';
import { launch } from './browser.mjs';
import { Client } from './client.mjs';

export const stand = new Stand();
const open = [() => stand.stop()];
async function closeAll() {
    for (const close of open.splice(0).reverse()) {
        await close();
    }
}
onSignal(closeAll);
after(closeAll);

await stand.start();
export const browser = await launch();
open.push(() => browser.close());
export const admin = await Client.loggedIn(stand);
open.push(() => admin.close());
