//! `--user`: the user and group that the process changes to.
//!
//! All threads change, and the process cannot return to root.

use std::ffi::CString;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgid, getuid, setegid, seteuid, setgid, setuid};

use crate::exit::{ExitError, ExitStatus, describe_io_error};
use crate::text::escape;

/// A user and group of the system.
#[derive(Clone, Debug)]
pub(crate) struct TargetUser {
    /// The setting as given, for errors: `--user nobody`.
    setting: String,
    uid: Uid,
    gid: Gid,
    /// The name, which has further groups; `None` for a number without an entry.
    name: Option<CString>,
}

/// Without its file, such as /etc/passwd, the system has no entry.
fn none_without_file<T>(errno: Errno) -> Result<Option<T>, Errno> {
    if errno == Errno::ENOENT { Ok(None) } else { Err(errno) }
}

impl TargetUser {
    /// Looks up `USER` or `USER:GROUP`, each a name or a number.
    pub(crate) fn look_up(text: &str, assignment: &str) -> Result<Self, ExitError> {
        let setting = format!("{assignment}{}", escape::excerpt(text));
        let refused = |cause: &str| {
            ExitError::new(ExitStatus::Unavailable, format!("cannot run as another user with {setting}: {cause}"))
        };
        let failed = |errno: Errno| refused(&format!("{}; try again", describe_io_error(&errno.into())));
        let (user_text, group_text) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let number = user_text.parse().ok().map(Uid::from_raw);
        let entry = match number {
            // An image from scratch has no /etc/passwd (ENOENT). A number needs none.
            Some(uid) => User::from_uid(uid).unwrap_or_default(),
            None => User::from_name(user_text).or_else(none_without_file).map_err(failed)?,
        };
        let Some(uid) = entry.as_ref().map(|user| user.uid).or(number) else {
            return Err(refused("there is no such user; create the user, or write a number"));
        };
        let gid = match (group_text, &entry) {
            (Some(group), _) => match group.parse() {
                Ok(gid) => Gid::from_raw(gid),
                Err(_) => match Group::from_name(group).or_else(none_without_file).map_err(failed)? {
                    Some(group) => group.gid,
                    None => return Err(refused("there is no such group; create the group, or write a number")),
                },
            },
            (None, Some(user)) => user.gid,
            (None, None) => {
                return Err(refused(&format!("user {uid} has no entry with a group; add one, as in {uid}:{uid}")));
            }
        };
        if uid.is_root() {
            return Err(refused("it is root, which keeps all rights; name another user"));
        }
        let name = entry.and_then(|user| CString::new(user.name).ok());
        Ok(Self { setting, uid, gid, name })
    }

    /// Changes the whole process to this user and group, with the groups of the user. `owned` is called first, with
    /// the numbers of both, and makes files belong to them. A process that already runs as this user changes nothing;
    /// capabilities or groups that it has beyond the user's are an error.
    pub(crate) fn change_to(&self, owned: impl FnOnce(u32, u32) -> io::Result<()>) -> Result<(), ExitError> {
        let Self { uid, gid, .. } = *self;
        if [getuid(), geteuid()] == [uid; 2] && [getgid(), getegid()] == [gid; 2] {
            self.check_groups()?;
            return self.check_rights();
        }
        let changed = owned(uid.as_raw(), gid.as_raw()).and_then(|()| self.change());
        changed.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => self.error(&error, "start halloo as root, or leave the setting out"),
            _ => self.error(&error, "leave the setting out"),
        })?;
        self.check_rights()
    }

    /// Checks that the process has no capability, and cannot return to root: its saved user may still be root.
    fn check_rights(&self) -> Result<(), ExitError> {
        self.check_capabilities()?;
        let (root, root_group) = (Uid::from_raw(0), Gid::from_raw(0));
        let keeps_group = self.gid != root_group && setegid(root_group).is_ok();
        if setuid(root).is_ok() || seteuid(root).is_ok() || keeps_group {
            let cause = io::Error::other("the process could return to root");
            return Err(self.error(&cause, "start halloo as root, or leave the setting out"));
        }
        Ok(())
    }

    /// A thread has the permitted capabilities of the thread that started it, and uses no others. The change of the
    /// user clears them, except ambient ones and those kept by the securebits (capabilities(7)).
    #[cfg(target_os = "linux")]
    fn check_capabilities(&self) -> Result<(), ExitError> {
        let without = "start halloo without them, or leave the setting out";
        let sets = rustix::thread::capabilities(None).map_err(|errno| self.error(&errno.into(), without))?;
        if sets.permitted.is_empty() {
            return Ok(());
        }
        let cause = format!("the process would keep capabilities (mask {:#x})", sets.permitted.bits());
        Err(self.error(&io::Error::other(cause), without))
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "only Linux has capabilities")]
    fn check_capabilities(&self) -> Result<(), ExitError> {
        Ok(())
    }

    /// Checks that the process has only groups of the user, as after a change.
    #[cfg(not(target_vendor = "apple"))]
    fn check_groups(&self) -> Result<(), ExitError> {
        use nix::unistd::{getgrouplist, getgroups};
        let without = "start halloo without them, or leave the setting out";
        let own = match &self.name {
            Some(name) => getgrouplist(name, self.gid),
            None => Ok(vec![self.gid]),
        };
        let both = own.and_then(|own| Ok((own, getgroups()?)));
        let (own, groups) = both.map_err(|errno| self.error(&errno.into(), without))?;
        let foreign = groups.iter().filter(|group| !own.contains(group)).map(Gid::to_string);
        let foreign: Vec<String> = foreign.collect();
        if foreign.is_empty() {
            return Ok(());
        }
        let cause = format!("the process would keep groups that the user does not have ({})", foreign.join(", "));
        Err(self.error(&io::Error::other(cause), without))
    }

    #[cfg(target_vendor = "apple")]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "macOS does not return the groups")]
    fn check_groups(&self) -> Result<(), ExitError> {
        Ok(())
    }

    /// The groups first: without root they cannot be changed. The C library changes all threads.
    fn change(&self) -> io::Result<()> {
        self.set_groups()?;
        setgid(self.gid)?;
        Ok(setuid(self.uid)?)
    }

    #[cfg(not(target_vendor = "apple"))]
    fn set_groups(&self) -> io::Result<()> {
        use nix::unistd::{initgroups, setgroups};
        let set = match &self.name {
            Some(name) => initgroups(name, self.gid),
            None => setgroups(&[self.gid]),
        };
        set.map_err(io::Error::from)
    }

    #[cfg(target_vendor = "apple")]
    fn set_groups(&self) -> io::Result<()> {
        let name = self.name.as_ref().map_or("-".into(), |name| name.to_string_lossy());
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("macOS does not change the groups of {name}")))
    }

    fn error(&self, error: &io::Error, hint: &str) -> ExitError {
        let (setting, cause) = (&self.setting, describe_io_error(error));
        ExitError::new(ExitStatus::Unavailable, format!("cannot run as another user with {setting}: {cause}; {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::TargetUser;
    use crate::exit::ExitStatus;

    #[test]
    fn a_user_is_a_name_or_a_number_with_or_without_a_group() {
        let numbers = |text| {
            let user = TargetUser::look_up(text, "--user ").unwrap();
            (user.uid.as_raw(), user.gid.as_raw(), user.name.is_some())
        };
        assert_eq!(numbers("4000001:4000002"), (4_000_001, 4_000_002, false));
        assert_eq!(numbers("nobody:4000002"), (65_534, 4_000_002, true));
        assert_eq!(numbers("nobody"), numbers("65534"));
    }

    #[test]
    fn an_unknown_user_or_group_or_root_is_refused() {
        for (text, cause) in [
            ("no-such-user", "there is no such user"),
            ("nobody:no-such-group", "there is no such group"),
            ("4000001", "user 4000001 has no entry with a group; add one, as in 4000001:4000001"),
            ("root", "it is root"),
            ("0:0", "it is root"),
            ("", "there is no such user"),
        ] {
            let error = TargetUser::look_up(text, "--user ").unwrap_err();
            assert_eq!(error.status, ExitStatus::Unavailable);
            assert!(error.message.contains(cause), "{}", error.message);
        }
    }
}
