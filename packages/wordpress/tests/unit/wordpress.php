<?php

/**
 * The few functions of WordPress that the plugin's rules call, doing what WordPress does in English.
 */

declare(strict_types=1);

function __($text, $domain)
{
    return $text;
}

function _n($single, $plural, $number, $domain)
{
    return (int) $number === 1 ? $single : $plural;
}

// WordPress's leave alone what looks like an entity already.
function esc_html($text)
{
    return htmlspecialchars((string) $text, ENT_QUOTES, 'UTF-8', false);
}

function esc_attr($text)
{
    return esc_html($text);
}

function esc_html__($text, $domain)
{
    return esc_html($text);
}

function number_format_i18n($number, $decimals = 0)
{
    return number_format((float) $number, $decimals);
}

function get_option($name)
{
    return ['date_format' => 'Y-m-d', 'time_format' => 'H:i'][$name];
}

function wp_date($format, $time)
{
    return gmdate($format, $time);
}
