/**
 * Keeps the page Tools → Cluster locks up to date, asks before a lock is broken, and draws the chart of waits.
 *
 * The cells come from the server, escaped (includes/class-lock-table.php). Only those that have changed are replaced,
 * so that focus, selection and opened details stay where they are.
 */
( function ( wp, settings ) {
	'use strict';

	const { __, sprintf } = wp.i18n;
	const byId = ( id ) => document.getElementById( 'cluster-lock-' + id );
	const table = byId( 'table' );
	if ( ! table || ! settings ) {
		return;
	}
	const body = table.tBodies[ 0 ];
	const path = ( route, query = {} ) => wp.url.addQueryArgs( settings.space + '/' + route, query );

	// ---- the table ---------------------------------------------------------------------------------------------

	/** The row of each lock, by the lock's identifier. */
	const rows = new Map();
	for ( const row of body.querySelectorAll( 'tr[data-lock]' ) ) {
		rows.set( row.dataset.lock, row );
	}
	const headings = Array.from( table.tHead.rows[ 0 ].cells );

	function newRow( lock ) {
		const row = document.createElement( 'tr' );
		row.dataset.lock = lock.id;
		for ( const heading of headings ) {
			const isName = heading.classList.contains( 'column-name' );
			const cell = document.createElement( isName ? 'th' : 'td' );
			if ( isName ) {
				cell.scope = 'row';
			}
			cell.className = heading.className;
			cell.dataset.colname = heading.textContent;
			row.append( cell );
		}
		return row;
	}

	function fill( row, lock ) {
		row.dataset.fence = lock.fence;
		row.dataset.title = lock.title;
		row.dataset.heldBy = lock.held_by;
		for ( const cell of row.cells ) {
			const html = lock.cells[ cell.className.replace( 'column-', '' ) ];
			if ( cell.served !== html ) {
				// What the page came with may be the same as what is served now.
				if ( undefined !== cell.served || cell.innerHTML !== normalised( html ) ) {
					cell.innerHTML = html;
				}
				cell.served = html;
			}
		}
	}

	/** As innerHTML would give it back. */
	function normalised( html ) {
		const template = document.createElement( 'template' );
		template.innerHTML = html;
		return template.innerHTML;
	}

	function show( locks ) {
		const hadFocus = body.contains( document.activeElement );
		const present = new Set( locks.map( ( lock ) => lock.id ) );
		for ( const [ id, row ] of rows ) {
			if ( ! present.has( id ) ) {
				row.remove();
				rows.delete( id );
			}
		}
		let previous = body.querySelector( '.no-items' );
		previous.hidden = locks.length > 0;
		for ( const lock of locks ) {
			const row = rows.get( lock.id ) || newRow( lock );
			rows.set( lock.id, row );
			fill( row, lock );
			if ( previous.nextElementSibling !== row ) {
				previous.after( row );
			}
			previous = row;
		}
		if ( hadFocus && ! body.contains( document.activeElement ) ) {
			table.focus( { preventScroll: true } );
		}
		table.dataset.refreshed = Number( table.dataset.refreshed ) + 1;
	}

	// ---- what is said about it ---------------------------------------------------------------------------------

	const summary = byId( 'summary' );
	const error = byId( 'error' );
	let spokenAt = Date.now();

	/** Tells screen readers of a change, but not every two seconds of one. */
	function summarise( text ) {
		if ( summary.textContent === text ) {
			return;
		}
		summary.textContent = text;
		if ( Date.now() - spokenAt > 15000 ) {
			spokenAt = Date.now();
			wp.a11y.speak( text, 'polite' );
		}
	}

	function complain( message ) {
		const text = error.querySelector( 'p' );
		table.classList.toggle( 'is-stale', Boolean( message ) );
		if ( ! message ) {
			error.hidden = true;
			text.textContent = '';
		} else if ( text.textContent !== message || error.hidden ) {
			const isNew = error.hidden;
			text.textContent = message;
			error.hidden = false;
			body.querySelector( '.no-items' ).hidden = true;
			summary.textContent = rows.size > 0 ? __( 'Not up to date.', 'cluster-lock' ) : '';
			if ( isNew ) {
				wp.a11y.speak( message, 'assertive' );
			}
		}
	}

	// ---- the refresh -------------------------------------------------------------------------------------------

	const pause = byId( 'pause' );
	let timer = 0;
	let asking = null;
	let waitsAt = 0;

	const isPaused = () => document.hidden || 'true' === pause.getAttribute( 'aria-pressed' );

	async function refresh() {
		window.clearTimeout( timer );
		if ( asking ) {
			asking.abort();
		}
		const mine = new AbortController();
		asking = mine;
		const began = Date.now();
		try {
			const { prefix, limit } = settings;
			const answer = await wp.apiFetch( { path: path( 'locks', { prefix, limit } ), signal: mine.signal } );
			show( answer.rows );
			summarise( answer.summary );
			complain( '' );
			if ( Date.now() - waitsAt > 30000 ) {
				waitsAt = Date.now();
				showWaits( await wp.apiFetch( { path: path( 'waits' ), signal: mine.signal } ) );
			}
		} catch ( failure ) {
			if ( mine.signal.aborted ) {
				return;
			}
			// What is in the table is no longer known to be so.
			complain( failure.message || __( 'The locks could not be read.', 'cluster-lock' ) );
			if ( failure.data && [ 401, 403 ].includes( failure.data.status ) ) {
				return; // Logged out: asking again does not help.
			}
		}
		asking = null;
		if ( ! isPaused() ) {
			// A slow server is not asked more often than it can answer.
			const rest = Math.max( settings.seconds * 1000, 3 * ( Date.now() - began ) );
			timer = window.setTimeout( refresh, rest );
		}
	}

	function stop() {
		window.clearTimeout( timer );
		if ( asking ) {
			asking.abort();
			asking = null;
		}
	}

	pause.addEventListener( 'click', () => {
		const isPressed = 'true' === pause.getAttribute( 'aria-pressed' );
		pause.setAttribute( 'aria-pressed', String( ! isPressed ) );
		pause.classList.toggle( 'active', ! isPressed );
		if ( isPressed ) {
			refresh();
		} else {
			stop();
		}
	} );
	document.addEventListener( 'visibilitychange', () => ( isPaused() ? stop() : refresh() ) );

	// ---- breaking a lock ---------------------------------------------------------------------------------------

	const dialog = byId( 'dialog' );
	const result = byId( 'result' );

	/** Resolves to whether the administrator said yes. */
	function confirmed( row ) {
		/* translators: %s: name of a lock. */
		const question = sprintf( __( 'Break the lock “%s”?', 'cluster-lock' ), row.dataset.title );
		if ( ! dialog.showModal ) {
			const consequence = byId( 'consequence' ).textContent;
			// eslint-disable-next-line no-alert -- For browsers without <dialog>.
			return Promise.resolve( window.confirm( [ question, row.dataset.heldBy, consequence ].join( '\n\n' ) ) );
		}
		byId( 'question' ).textContent = question;
		dialog.querySelector( '[data-held-by]' ).textContent = row.dataset.heldBy;
		dialog.returnValue = '';
		dialog.showModal();
		return new Promise( ( resolve ) => {
			dialog.addEventListener( 'close', () => resolve( 'confirmed' === dialog.returnValue ), { once: true } );
		} );
	}
	dialog.querySelector( '[data-confirm]' ).addEventListener( 'click', () => dialog.close( 'confirmed' ) );

	function announce( message, isSuccess ) {
		result.querySelector( 'p' ).textContent = message;
		result.classList.toggle( 'notice-success', isSuccess );
		result.classList.toggle( 'notice-error', ! isSuccess );
		result.hidden = false;
		wp.a11y.speak( message, 'assertive' );
	}

	body.addEventListener( 'click', async ( event ) => {
		const button = event.target.closest( '[data-break]' );
		if ( ! button ) {
			return;
		}
		const row = button.closest( 'tr' );
		// Whom the question names is who is meant, whatever the refresh brings meanwhile.
		const data = { lock: row.dataset.lock, fence: row.dataset.fence };
		if ( ! ( await confirmed( row ) ) ) {
			return;
		}
		button.disabled = true;
		try {
			const answer = await wp.apiFetch( { path: path( 'break' ), method: 'POST', data } );
			announce( answer.message, true );
		} catch ( failure ) {
			announce( failure.message || __( 'The lock could not be broken.', 'cluster-lock' ), false );
		}
		button.disabled = false;
		await refresh();
		if ( ! button.isConnected ) {
			result.focus( { preventScroll: true } );
		}
	} );

	// ---- the chart ---------------------------------------------------------------------------------------------

	const chart = byId( 'chart' );
	const SVG = 'http://www.w3.org/2000/svg';
	// In pixels: its height, and the room for the labels.
	const HEIGHT = 190;
	const LEFT = 56;
	const RIGHT = 16;
	const BOTTOM = 24;
	const TOP = 14;
	let series = settings.series;

	function draw( parent, name, attributes, text ) {
		const node = document.createElementNS( SVG, name );
		for ( const key of Object.keys( attributes ) ) {
			node.setAttribute( key, attributes[ key ] );
		}
		if ( undefined !== text ) {
			node.textContent = text;
		}
		parent.append( node );
		return node;
	}

	/** The smallest of 1, 2, 5 times a power of ten that is not less: a scale that reads well. */
	function rounded( value ) {
		const power = 10 ** Math.floor( Math.log10( value ) );
		return [ 1, 2, 5, 10 ].map( ( step ) => step * power ).find( ( top ) => top >= value * 0.999 );
	}

	function showChart() {
		const width = Math.max( 280, chart.querySelector( 'figcaption' ).clientWidth );
		const longest = Math.max( ...series.map( ( hour ) => hour.seconds ) );
		const top = longest > 0 ? rounded( longest ) : 1;
		const height = HEIGHT - BOTTOM - TOP;
		const step = ( width - LEFT - RIGHT ) / series.length;
		const y = ( seconds ) => TOP + height * ( 1 - seconds / top );
		const label = longest > 0
			? __( 'Bar chart of the time that requests waited in each of the last 48 hours; the table after it has the numbers.', 'cluster-lock' )
			: __( 'No request has waited in the last 48 hours.', 'cluster-lock' );
		const svg = document.createElementNS( SVG, 'svg' );
		svg.setAttribute( 'viewBox', `0 0 ${ width } ${ HEIGHT }` );
		svg.setAttribute( 'role', 'img' );
		svg.setAttribute( 'aria-label', label );

		for ( const part of [ 0, 0.5, 1 ] ) {
			draw( svg, 'line', { x1: LEFT, x2: width - RIGHT, y1: y( top * part ), y2: y( top * part ), class: 'grid' } );
			/* translators: %s: a number of seconds. */
			const text = sprintf( __( '%s s', 'cluster-lock' ), Number( ( top * part ).toPrecision( 3 ) ).toLocaleString() );
			draw( svg, 'text', { x: LEFT - 8, y: y( top * part ) + 4, class: 'scale' }, text );
		}
		series.forEach( ( hour, index ) => {
			const x = LEFT + index * step;
			if ( 0 === ( series.length - 1 - index ) % ( step < 10 ? 12 : 6 ) ) {
				draw( svg, 'text', { x: x + step / 2, y: HEIGHT - 6, class: 'clock' }, hour.clock );
			}
			if ( hour.requests > 0 ) {
				const bar = draw( svg, 'g', { class: hour.timed_out > 0 ? 'bar timed-out' : 'bar' } );
				draw( bar, 'title', {}, hour.title );
				// At least a line: an hour with short waits is not an hour without.
				const from = Math.min( y( hour.seconds ), y( 0 ) - 2 );
				draw( bar, 'rect', { x: x + step * 0.1, y: from, width: step * 0.8, height: y( 0 ) - from, rx: 1 } );
				if ( hour.timed_out > 0 ) {
					draw( bar, 'text', { x: x + step / 2, y: from - 3, class: 'mark' }, '!' );
				}
			}
		} );
		if ( 0 === longest ) {
			draw( svg, 'text', { x: ( width - RIGHT + LEFT ) / 2, y: TOP + height / 2 + 4, class: 'empty' }, label );
		}
		const old = chart.querySelector( 'svg' );
		if ( old ) {
			old.replaceWith( svg );
		} else {
			chart.append( svg );
		}
	}

	function showWaits( answer ) {
		series = answer.series;
		showChart();
		byId( 'figures' ).innerHTML = answer.html.figures;
		byId( 'hours' ).tBodies[ 0 ].innerHTML = answer.html.hours;
		byId( 'slow' ).tBodies[ 0 ].innerHTML = answer.html.slow;
	}

	waitsAt = Date.now();
	new ResizeObserver( showChart ).observe( chart.querySelector( 'figcaption' ) );
	if ( ! isPaused() ) {
		refresh();
	}
} )( window.wp, window.clusterLock );
