//! What a file keeps when it is replaced: mode, owner, group, ACL, extended attributes.
//!
//! "Where permitted": a process that may not give files away cannot keep a foreign owner. What
//! cannot be kept is lost safely, that is, nobody gets a right that the old file did not give:
//! * The owner cannot be kept: set-user-ID, set-group-ID and sticky bits are dropped. The first two
//!   also where writing into the old file would have dropped them, that is, for all but root.
//! * The group cannot be kept: the new group's members were "others" before, and the old group's
//!   members are "others" now. Both get what group *and* others had: 0664 becomes 0644, 0640
//!   becomes 0600. An `NFSv4` ACL is not copied then.
//! * The ACL cannot be set: the group gets what its own entry said (the mode shows the ACL's
//!   mask instead), named users and groups lose their rights.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{
    Gid, Mode, Uid, XattrFlags, fchmod, fchown, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query,
    fremovexattr, fsetxattr, fstat, ftruncate,
};
use rustix::io::Errno;

use super::target::Place;
use crate::error::Result;
use crate::text;

/// The attributes that hold an ACL; a file system has one kind at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AclKind {
    Posix,
    Nfs4,
}

impl AclKind {
    const fn attribute(self) -> &'static CStr {
        match self {
            Self::Posix => c"system.posix_acl_access",
            Self::Nfs4 => c"system.nfs4_acl",
        }
    }
}

const POSIX_ACL: &CStr = AclKind::Posix.attribute();
const SELINUX: &CStr = c"security.selinux";

/// The kernel's limit for the list of names, and for one value.
const XATTR_MAX: usize = 1 << 16;

/// The metadata of an existing file.
#[derive(Debug)]
pub(super) struct Metadata {
    uid: u32,
    gid: u32,
    mode: u32,
    /// The kind of ACL it has, and its bytes.
    acl: Option<(AclKind, Vec<u8>)>,
    attributes: Vec<(CString, Vec<u8>)>,
}

impl Metadata {
    pub(super) fn read(file: &OwnedFd, place: &Place) -> Result<Self> {
        let stat = fstat(file).map_err(|e| place.failed("cannot examine the existing file", e))?;
        let mut kept = Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            acl: None,
            attributes: Vec::new(),
        };
        for name in attribute_names(file) {
            // Others, such as security.capability, do not survive plain writing either, or are
            // not ours to copy (trusted.*).
            let acl =
                [AclKind::Posix, AclKind::Nfs4].into_iter().find(|kind| kind.attribute() == name.as_c_str());
            let wanted = name.as_bytes().starts_with(b"user.") || name.as_c_str() == SELINUX;
            if (acl.is_some() || wanted)
                && let Some(value) = attribute(file, &name)
            {
                match acl {
                    Some(kind) => kept.acl = Some((kind, value)),
                    None => kept.attributes.push((name, value)),
                }
            }
        }
        Ok(kept)
    }

    /// Gives them to the finished temporary file, which is private (0600) until the group is
    /// right, and ours until everything but the owner is: changing the owner comes last, so that
    /// no more than the right to do that (`CAP_CHOWN`) is needed.
    pub(super) fn apply(&self, file: &OwnedFd, place: &Place) -> Result<()> {
        let examine = || fstat(file).map_err(|e| place.failed("cannot examine the new file", e));
        let new = examine()?;
        let group_kept = self.gid == new.st_gid || {
            let outcome = fchown(file, None, Some(Gid::from_raw(self.gid)));
            tolerate(outcome).map_err(|e| place.failed("cannot keep the group", e))?;
            examine()?.st_gid == self.gid
        };
        for (name, value) in &self.attributes {
            if name.as_c_str() == SELINUX && attribute(file, SELINUX).as_ref() == Some(value) {
                continue; // Setting even the same label may be refused, and audited.
            }
            let outcome = fsetxattr(file, name.as_c_str(), value, XattrFlags::empty());
            tolerate(outcome).map_err(|e| {
                let step = format!("cannot keep the attribute {}", text::said(&name.to_string_lossy()));
                place.failed(step, e)
            })?;
        }
        let acl_kept =
            self.apply_acl(file, group_kept).map_err(|e| place.failed("cannot keep the ACL", e))?;
        let now = examine()?.st_mode & 0o7777;
        let permissions = match acl_kept {
            // The ACL has set the mode, and setting the mode would change the ACL.
            Some(AclKind::Posix) => now & 0o777,
            Some(AclKind::Nfs4) => self.mode & 0o777,
            None => self.permissions_without_acl(group_kept),
        };
        let chmod = |mode| fchmod(file, Mode::from_raw_mode(mode));
        if permissions != now {
            chmod(permissions).map_err(|e| place.failed("cannot keep the mode", e))?;
        }
        let owner_kept = self.uid == new.st_uid || {
            let outcome = fchown(file, Some(Uid::from_raw(self.uid)), None);
            tolerate(outcome).map_err(|e| place.failed("cannot keep the owner", e))?;
            examine()?.st_uid == self.uid
        };
        // Last, because a change of owner clears them.
        let special = self.mode & if group_kept { 0o7000 } else { 0o5000 };
        if owner_kept && special != 0 {
            tolerate(chmod(permissions | special)).map_err(|e| place.failed("cannot keep the mode", e))?;
            // The kernel takes them away again from those from whom writing into the file takes them:
            // other content must not inherit the trust.
            let size = u64::try_from(examine()?.st_size).unwrap_or_default();
            ftruncate(file, size).map_err(|e| place.failed("cannot keep the mode", e))?;
        }
        Ok(())
    }

    /// The kind of ACL that the file has now, if it has one.
    fn apply_acl(&self, file: &OwnedFd, group_kept: bool) -> std::result::Result<Option<AclKind>, Errno> {
        // A default ACL of the directory gives the temporary file one that the old file had not.
        if !matches!(self.acl, Some((AclKind::Posix, _))) && attribute(file, POSIX_ACL).is_some() {
            fremovexattr(file, POSIX_ACL)?;
        }
        let Some((kind, acl)) = &self.acl else { return Ok(None) };
        let mut acl = acl.clone();
        if !group_kept {
            if *kind == AclKind::Nfs4 {
                return Ok(None);
            }
            let common = acl_entry(&acl, ACL_GROUP_OBJ) & acl_entry(&acl, ACL_OTHER);
            set_acl_entries(&mut acl, &[ACL_GROUP_OBJ, ACL_OTHER], common);
        }
        match fsetxattr(file, kind.attribute(), &acl, XattrFlags::empty()) {
            Ok(()) => Ok(Some(*kind)),
            refused => {
                tolerate(refused)?;
                if *kind == AclKind::Posix && attribute(file, POSIX_ACL).is_some() {
                    fremovexattr(file, POSIX_ACL)?;
                }
                Ok(None)
            }
        }
    }

    fn permissions_without_acl(&self, group_kept: bool) -> u32 {
        let (mut group, mut other) = (self.mode >> 3 & 7, self.mode & 7);
        if let Some((AclKind::Posix, acl)) = &self.acl {
            group &= acl_entry(acl, ACL_GROUP_OBJ);
        }
        if !group_kept {
            other &= group;
            group = other;
        }
        self.mode & 0o700 | group << 3 | other
    }
}

/// What a process without privileges, a file system without the feature, or a user namespace
/// without the id says: the old value cannot be kept.
fn tolerate(outcome: std::result::Result<(), Errno>) -> std::result::Result<(), Errno> {
    match outcome {
        Err(
            Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::OVERFLOW,
        ) => Ok(()),
        outcome => outcome,
    }
}

/// The names of a file's extended attributes; none where there is no such thing.
fn attribute_names(file: &OwnedFd) -> Vec<CString> {
    if !matches!(flistxattr_query(file), Ok(1..)) {
        return Vec::new();
    }
    let mut list = vec![0; XATTR_MAX];
    let length = flistxattr(file, &mut *list).unwrap_or(0);
    list.truncate(length);
    list.split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect()
}

fn attribute(file: &OwnedFd, name: &CStr) -> Option<Vec<u8>> {
    let size = fgetxattr_query(file, name).ok()?;
    // Room for more: it may grow between the two calls.
    let mut value = vec![0; if size == 0 { 0 } else { XATTR_MAX }];
    let length = if size == 0 { 0 } else { fgetxattr(file, name, &mut *value).ok()? };
    value.truncate(length);
    Some(value)
}

// The kernel's form of a POSIX ACL: a 32-bit version, then entries of 8 bytes: tag (16 bits),
// permissions (16), id (32), all little-endian. See linux/posix_acl_xattr.h.
const ACL_GROUP_OBJ: u8 = 0x04;
const ACL_OTHER: u8 = 0x20;

fn acl_entry(acl: &[u8], tag: u8) -> u32 {
    let mut entries = acl.get(4..).unwrap_or_default().chunks_exact(8);
    let found = entries.find_map(|entry| match entry {
        [t, 0, permissions, ..] if *t == tag => Some(u32::from(*permissions)),
        _ => None,
    });
    found.unwrap_or(0)
}

fn set_acl_entries(acl: &mut [u8], tags: &[u8], value: u32) {
    for entry in acl.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        if let [tag, 0, permissions, ..] = entry
            && tags.contains(tag)
        {
            *permissions = u8::try_from(value).unwrap_or(0);
        }
    }
}
