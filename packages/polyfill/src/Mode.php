<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** Exclusive or shared; the value is the letter of the protocol. */
enum Mode: string
{
    case Exclusive = 'X';
    case Shared = 'S';

    /** The word used in reports. */
    public function word(): string
    {
        return $this === self::Exclusive ? 'exclusive' : 'shared';
    }

    /** Whether locks in these two modes cannot be held at once. */
    public function excludes(self $other): bool
    {
        return $this === self::Exclusive || $other === self::Exclusive;
    }
}
