//! `ClusterLock`. PHP's object is an id; its state stands in the request's table.

use std::time::Duration;

use cluster_lock_core::{Acquired, Engine, Error, Lease, LockName, Mode};

use super::{Asked, Given, Request, Wish, given_back};
use crate::arguments::{self, Checked};
use crate::reply::{Class, Reply, Value, int};
use crate::words::{self, about};
use crate::{request, settings};

/// The state of one object.
pub(crate) struct Object {
    pub(crate) name: LockName,
    mode: Mode,
    /// `None` is the setting at the time of acquiring.
    ttl: Option<Duration>,
    /// Held, or lost and not yet told.
    pub(crate) lease: Option<Lease>,
}

/// The constructor.
pub(crate) fn new(name: &[u8], mode: i64, ttl: Option<f64>) -> Checked {
    let name = arguments::name(1, name)?;
    let (mode, _) = arguments::mode(2, mode, false)?;
    let object = Object { name, mode, ttl: arguments::ttl(3, ttl)?, lease: None };
    Ok(request::with(|request| {
        let id = request.new_id();
        request.objects.insert(id, object);
        Reply::from(true).id(id)
    }))
}

/// Runs with the object's state; PHP may still have objects when the request's table is gone.
fn with(id: u64, work: impl FnOnce(&mut Object) -> Reply) -> Reply {
    request::with(|request| request.objects.get_mut(&id).map_or_else(over, work))
}

fn over() -> Reply {
    Reply::throw(Class::Error, words::OBJECT_IS_OVER.into())
}

fn not_held(name: &LockName) -> Reply {
    Reply::throw(Class::Lock, about(name, words::NOT_HELD_BY_OBJECT))
}

fn thrown(name: &LockName, error: &Error) -> Reply {
    Reply::throw(Class::of(error), about(name, error))
}

/// `acquire()`
pub(crate) fn acquire(id: u64, timeout: Option<f64>, resume: u64) -> Checked {
    let timeout = arguments::timeout(1, timeout)?;
    Ok(request::with(|request| acquire_in(request, id, timeout, resume)))
}

fn acquire_in(request: &mut Request, id: u64, timeout: Option<Duration>, resume: u64) -> Reply {
    let Some(object) = request.objects.get_mut(&id) else { return over() };
    let name = object.name.clone();
    if let Some(loss) = object.lease.as_ref().map(Lease::loss) {
        let Some(loss) = loss else { return true.into() };
        if let Some(lease) = object.lease.take() {
            let _ = lease.release();
        }
        return thrown(&name, &Error::Lost(loss));
    }
    let mut wish = Wish::new(object.mode, timeout, object.ttl.unwrap_or_else(settings::ttl));
    let place = request.take_wait(resume).and_then(|(place, started)| {
        wish.started = started;
        place
    });
    let Asked { outcome, log, .. } = match place {
        Some(pending) => request.ask(&wish, &name, |how| Engine::resume(pending, how)),
        None => request.claim(&wish, &name, Some(id)),
    };
    let reply = match outcome {
        Ok(Acquired::Held { lease, .. }) => {
            if let Some(object) = request.objects.get_mut(&id) {
                object.lease = Some(lease);
            }
            true.into()
        }
        Ok(Acquired::Interrupted(wait)) => return Reply::again(wait),
        Ok(Acquired::Covered { .. } | Acquired::TimedOut { .. }) => false.into(),
        Err(error) => thrown(&name, &error),
    };
    reply.log(log)
}

/// `release()`
pub(crate) fn release(id: u64) -> Reply {
    with(id, |object| {
        let Some(lease) = object.lease.take() else { return not_held(&object.name) };
        match given_back(&object.name, lease.release().map(Given::from)) {
            Ok(()) => Value::Null.into(),
            Err((class, message)) => Reply::throw(class, message),
        }
    })
}

/// `refresh()`
pub(crate) fn refresh(id: u64, ttl: Option<f64>) -> Checked {
    let ttl = arguments::ttl(1, ttl)?;
    Ok(with(id, |object| {
        let Some(lease) = &object.lease else { return not_held(&object.name) };
        match lease.refresh(ttl.or(object.ttl).unwrap_or_else(settings::ttl)) {
            Ok(()) => Value::Null.into(),
            Err(error) => thrown(&object.name, &error),
        }
    }))
}

/// `isHeld()`
pub(crate) fn is_held(id: u64) -> Reply {
    with(id, |object| object.lease.as_ref().is_some_and(Lease::is_held).into())
}

/// `remaining()`
pub(crate) fn remaining(id: u64) -> Reply {
    with(id, |object| {
        let left = object.lease.as_ref().map(Lease::remaining).unwrap_or_default();
        Value::Float(left.as_secs_f64()).into()
    })
}

/// `fence()`
pub(crate) fn fence(id: u64) -> Reply {
    with(id, |object| match object.lease.as_ref().filter(|lease| lease.is_held()) {
        Some(lease) => Value::Int(int(lease.fence())).into(),
        None => not_held(&object.name),
    })
}

/// `__destruct()`
pub(crate) fn destruct(id: u64) -> Reply {
    request::with(|request| {
        let Some(object) = request.objects.get_mut(&id) else { return Value::Null.into() };
        let Some(lease) = object.lease.take() else { return Value::Null.into() };
        match given_back(&object.name, lease.release().map(Given::from)) {
            Ok(()) => Value::Null.into(),
            Err((_, message)) => Reply::from(Value::Null).warn(message),
        }
    })
}

/// PHP frees the object; its destructor may not have run (after a fatal error none does).
pub(crate) fn free(id: u64) {
    // Dropping the lease releases it.
    drop(request::with(|request| request.objects.remove(&id)));
}
