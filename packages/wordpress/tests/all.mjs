/** Every test of the WordPress side, on one stand: `script/test wordpress`, or `node packages/wordpress/tests/all.mjs`. */

import './access.mjs';
import './page.mjs';
import './saves.mjs';
import './compiles.mjs';
import './command.mjs';
import './health.mjs';
