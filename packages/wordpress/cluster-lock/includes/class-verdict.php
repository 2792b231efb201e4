<?php
/**
 * What a Site Health test found.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Collects text and becomes the array that WordPress expects of a test. Takes plain text; the HTML is made here.
 */
final class Verdict {

	/**
	 * "good", "recommended" or "critical".
	 *
	 * @var string
	 */
	public $status;

	/**
	 * The heading.
	 *
	 * @var string
	 */
	public $label;

	/**
	 * The paragraphs, escaped.
	 *
	 * @var string[]
	 */
	private $paragraphs = array();

	/**
	 * Made by good(), recommended() or critical().
	 *
	 * @param string $status One of these.
	 * @param string $label  The heading.
	 */
	private function __construct( string $status, string $label ) {
		$this->status = $status;
		$this->label  = $label;
	}

	/**
	 * Nothing to do.
	 *
	 * @param string $label The heading.
	 */
	public static function good( string $label ): self {
		return new self( 'good', $label );
	}

	/**
	 * Something to improve, or something that could not be found out.
	 *
	 * @param string $label The heading.
	 */
	public static function recommended( string $label ): self {
		return new self( 'recommended', $label );
	}

	/**
	 * Locks do not work, or may be lost.
	 *
	 * @param string $label The heading.
	 */
	public static function critical( string $label ): self {
		return new self( 'critical', $label );
	}

	/**
	 * Adds a paragraph.
	 *
	 * @param string $text Plain text.
	 */
	public function say( string $text ): self {
		$this->paragraphs[] = '<p>' . Text::escaped( $text ) . '</p>';
		return $this;
	}

	/**
	 * Adds something to be typed or put into a file.
	 *
	 * @param string $code Plain text.
	 */
	public function code( string $code ): self {
		$lines = array_map( array( Text::class, 'escaped' ), explode( "\n", $code ) );

		$this->paragraphs[] = '<p><code>' . implode( '</code><br><code>', $lines ) . '</code></p>';
		return $this;
	}

	/**
	 * Adds a list.
	 *
	 * @param string[] $items Plain texts.
	 */
	public function items( array $items ): self {
		$this->paragraphs[] = '<ul><li>' . implode( '</li><li>', array_map( array( Text::class, 'escaped' ), $items ) ) . '</li></ul>';
		return $this;
	}

	/**
	 * What has been said, as HTML.
	 */
	public function description(): string {
		return implode( '', $this->paragraphs );
	}

	/**
	 * As WordPress expects it of the test.
	 *
	 * @param string $test    The test's identifier.
	 * @param string $actions HTML, escaped.
	 */
	public function result( string $test, string $actions = '' ): array {
		return array(
			'test'        => $test,
			'status'      => $this->status,
			'label'       => $this->label,
			'badge'       => array(
				'label' => __( 'Cluster locks', 'cluster-lock' ),
				'color' => 'blue',
			),
			'description' => $this->description(),
			'actions'     => $actions,
		);
	}
}
