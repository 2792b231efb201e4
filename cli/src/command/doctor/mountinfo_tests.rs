use super::*;

/// Lines as kernels write them: a server's system disk, NFS of every version, EFS with and without the
/// mount helper, SMB, Ceph, Gluster, an overlay, bind mounts.
pub(crate) const SAMPLE: &str = r"22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
31 22 0:52 / /srv/v3 rw,relatime shared:98 - nfs nas1:/vol/web rw,vers=3,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,mountaddr=10.0.0.9,mountvers=3,mountport=20048,mountproto=udp,local_lock=none,addr=10.0.0.9
32 22 0:53 / /srv/nolock rw,relatime shared:99 - nfs nas1:/vol/nolock rw,vers=3,rsize=65536,wsize=65536,namlen=255,soft,nolock,proto=tcp,timeo=600,retrans=2,sec=sys,mountaddr=10.0.0.9,mountvers=3,mountport=20048,mountproto=udp,local_lock=all,addr=10.0.0.9
33 22 0:54 / /srv/v40 rw,relatime shared:100 - nfs4 10.9.0.1:/ rw,vers=4.0,rsize=262144,wsize=262144,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.9.0.11,local_lock=none,addr=10.9.0.1
34 22 0:55 / /srv/v42 rw,relatime,sync shared:101 - nfs4 [2001:db8::9]:/export/web rw,vers=4.2,rsize=1048576,wsize=1048576,namlen=255,acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,hard,noac,proto=tcp6,timeo=600,retrans=2,sec=sys,clientaddr=2001:db8::11,lookupcache=positive,local_lock=none,addr=2001:db8::9
35 22 0:56 / /mnt/efs rw,relatime shared:102 - nfs4 eu-west-1a.fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/ rw,vers=4.1,rsize=1048576,wsize=1048576,namlen=255,hard,noresvport,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.0.1.7,local_lock=none,addr=10.0.1.20
36 22 0:57 / /mnt/efs-tls rw,relatime shared:103 - nfs4 127.0.0.1:/ rw,vers=4.1,rsize=1048576,wsize=1048576,namlen=255,hard,noresvport,proto=tcp,port=20449,timeo=600,retrans=2,sec=sys,clientaddr=127.0.0.1,local_lock=none,addr=127.0.0.1
37 22 0:58 / /mnt/smb rw,relatime shared:104 - cifs //NAS1/Web rw,vers=3.1.1,cache=strict,username=web,uid=33,noforceuid,gid=33,noforcegid,addr=10.0.0.9,file_mode=0755,dir_mode=0755,soft,nounix,serverino,mapposix,nobrl,rsize=4194304,wsize=4194304,bsize=1048576,echo_interval=60,actimeo=1,closetimeo=1
38 22 0:59 / /mnt/ceph rw,relatime shared:105 - ceph 10.0.0.1:6789,10.0.0.2:6789:/web rw,name=web,secret=<hidden>,fsid=00000000-0000-0000-0000-000000000000,acl
39 22 0:60 / /mnt/gluster rw,relatime shared:106 - fuse.glusterfs gl1:/web rw,user_id=0,group_id=0,default_permissions,allow_other,max_read=131072
40 22 0:61 / /var/lib/docker/overlay2/abc/merged rw,relatime shared:107 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A:/var/lib/docker/overlay2/l/B,upperdir=/var/lib/docker/overlay2/abc/diff,workdir=/var/lib/docker/overlay2/abc/work
41 22 0:56 /site\0401/wp-content /var/www/my\040site/wp-content rw,relatime shared:102 - nfs4 eu-west-1a.fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/ rw,vers=4.1,rsize=1048576,hard,proto=tcp,timeo=600,retrans=2,sec=sys,local_lock=none,addr=10.0.1.20
42 22 259:1 /home/backup\134slash /srv/local ro,relatime master:1 propagate_from:2 - ext4 /dev/nvme0n1p1 rw,errors=remount-ro
43 22 0:62 / /shared/home rw,relatime shared:108 - autofs systemd-1 rw,fd=41,pgrp=1,timeout=0,minproto=5,maxproto=5,direct,pipe_ino=1234
44 43 0:63 / /shared/home rw,relatime shared:109 - nfs4 nas1:/home rw,vers=4.1,hard,proto=tcp,local_lock=none,addr=10.0.0.9
45 22 0:64 / /sys/fs/fuse/connections rw shared:110 - fusectl fusectl rw
46 22 0:65 / /var/lib/lxcfs rw shared:111 - fuse.lxcfs lxcfs rw,user_id=0,group_id=0,allow_other
";

fn sample() -> Mounts {
    Mounts::parse(SAMPLE.as_bytes())
}

fn at(point: &str) -> Mount {
    sample().visible().find(|mount| mount.point == Path::new(point)).unwrap().clone()
}

#[test]
fn every_field_is_read() {
    let mount = at("/srv/v3");
    assert_eq!((mount.device.as_str(), mount.root.as_path()), ("0:52", Path::new("/")));
    assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("nfs", "nas1:/vol/web"));
    assert_eq!(mount.option("vers"), Some("3"));
    assert_eq!(mount.option("local_lock"), Some("none"));
    assert!(mount.has("hard") && !mount.has("soft") && !mount.has("vers=3"));
    assert_eq!(mount.option("hard"), None);
    assert_eq!(sample().visible().count(), 17);
}

#[test]
fn escapes_are_undone() {
    let mount = at("/var/www/my site/wp-content");
    assert_eq!(mount.root, Path::new("/site 1/wp-content"));
    assert_eq!(at("/srv/local").root, Path::new(r"/home/backup\slash"));
    assert_eq!(unescape(br"\011\012\0\999\"), b"\t\n\\0\\999\\");
}

#[test]
fn optional_fields_may_be_any_number() {
    assert!(at("/srv/local").is_read_only());
    assert!(!at("/").is_read_only());
    assert_eq!(at("/sys/fs/fuse/connections").fstype, "fusectl");
}

#[test]
fn a_path_is_on_the_innermost_mount() {
    let of = |path: &str| sample().of(Path::new(path)).unwrap().point.clone();
    assert_eq!(of("/srv/v3/a/b"), Path::new("/srv/v3"));
    assert_eq!(of("/srv/v3x"), Path::new("/"));
    assert_eq!(of("/mnt/efs-tls"), Path::new("/mnt/efs-tls"));
}

#[test]
fn a_mount_over_another_hides_it() {
    assert_eq!(at("/shared/home").fstype, "nfs4");
    let hidden =
        format!("{SAMPLE}47 22 0:70 / /mnt rw - tmpfs tmpfs rw\n48 47 0:71 / /mnt/efs rw - tmpfs new rw\n");
    let mounts = Mounts::parse(hidden.as_bytes());
    let below: Vec<_> =
        mounts.visible().filter(|m| m.point.starts_with("/mnt")).map(|m| m.source.as_str()).collect();
    assert_eq!(below, ["tmpfs", "new"]);
    // The root may come last: pivot_root(2).
    let pivoted = Mounts::parse(b"5 4 0:5 / /proc rw - proc proc rw\n4 1 0:4 / / rw - overlay overlay rw\n");
    assert_eq!(pivoted.visible().count(), 2);
}

#[test]
fn what_makes_no_sense_is_left_out() {
    for text in ["", "\n", "1 2 0:1 /", "a b c d e f - g h i", "1 2 0:1 / /x rw shared:1"] {
        assert_eq!(Mounts::parse(text.as_bytes()).0, [], "{text}");
    }
    let circle = Mounts::parse(b"1 2 0:1 / /a rw - x x rw\n2 1 0:2 / /a/b rw - x x rw\n");
    assert_eq!(circle.visible().count(), 2);
}

#[test]
fn this_machine_has_a_root() {
    assert!(Mounts::read().unwrap().of(Path::new("/")).is_some());
}
