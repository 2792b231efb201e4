/** Every test of the WordPress side, on one stand: `script/test wordpress`, or `node wordpress/tests/all.mjs`. */

import './saves.mjs';
