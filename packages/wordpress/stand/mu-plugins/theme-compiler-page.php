<?php
/**
 * Plugin Name: The theme compiler's page
 * Description: Appearance → Theme compiler: Save in each of its ways, and how often the theme was compiled.
 *
 * Save may be pressed again while others are under way, as impatient administrators do.
 */

declare( strict_types=1 );

add_action( 'admin_menu', 'stand_add_page' );

/** Below Appearance, for those who may edit themes. */
function stand_add_page(): void {
	add_theme_page( 'Theme compiler', 'Theme compiler', 'edit_themes', 'stand-compiler', 'stand_page' );
}

/** The form, and what has become of its saves. */
function stand_page(): void {
	?>
	<div class="wrap">
		<h1>Theme compiler</h1>
		<form id="stand-form">
			<input type="hidden" name="action" value="stand_compile">
			<?php wp_nonce_field( 'stand', '_wpnonce', false ); ?>
			<p><label>Option <input name="property" value="--page-home--accent"></label></p>
			<p><label>Colour <input name="value" value="#c0ffee"></label></p>
			<p><label>Way <select name="way">
				<option>cluster_file_build</option>
				<option>cluster_lock</option>
				<option>flock</option>
				<option>none</option>
			</select></label></p>
			<p><label>Asked before anything is read <input type="url" name="start"></label></p>
			<p><label>Asked while it is compiled <input type="url" name="font"></label></p>
			<button class="button button-primary">Save</button>
		</form>
		<p>Saves from here: <output id="stand-asked">0</output> asked, <output id="stand-done">0</output> done,
			<output id="stand-failed">0</output> failed. The theme was compiled
			<output id="stand-compiles"><?php echo (int) @filesize( stand_counter() ); ?></output> times, on all nodes.</p>
	</div>
	<script>
	{
		const form = document.querySelector( '#stand-form' );
		const figure = ( name ) => document.querySelector( `#stand-${ name }` );
		const add = ( name ) => ( figure( name ).value = Number( figure( name ).value ) + 1 );
		form.addEventListener( 'submit', async ( event ) => {
			event.preventDefault();
			add( 'asked' );
			const answer = await fetch( ajaxurl, { method: 'POST', body: new URLSearchParams( new FormData( form ) ) } );
			const { data } = await ( await fetch( `${ ajaxurl }?action=stand_compiles` ) ).json();
			figure( 'compiles' ).value = Math.max( figure( 'compiles' ).value, data );
			add( answer.ok ? 'done' : 'failed' );
		} );
	}
	</script>
	<?php
}
