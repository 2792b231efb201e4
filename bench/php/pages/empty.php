<?php

// The cheapest page there is: whatever an extension adds to a request shows here most.
echo 'ok';
