<?php

// A page that locks once.

declare(strict_types=1);

if (!cluster_lock('bench:page')) {
    throw new RuntimeException('not locked');
}
echo 'ok';
cluster_unlock('bench:page');
