<?php

declare(strict_types=1);

/** As KeptOpen, for a file that has to exist. */
final class KeptOpenExisting extends KeptOpen
{
    protected const MODE = 'r+';
}
