<?php

declare(strict_types=1);

require __DIR__ . '/wordpress.php';
require dirname(__DIR__, 4) . '/php-tests/bootstrap.php';
require dirname(__DIR__, 2) . '/cluster-lock/includes/class-plugin.php';
spl_autoload_register([Cluster_Lock\Plugin::class, 'load']);
