//! What a process and its sockets cost, by the kernel's books.

use std::time::Duration;

/// Linux counts process time in these units for every program (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// What some processes use together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Resident bytes.
    pub(crate) rss: u64,
    /// User and system time; grows in steps of 10 ms.
    pub(crate) cpu: Duration,
}

/// What the kernel holds for all sockets of this machine (of this network namespace).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kernel {
    /// Bytes in buffers of TCP sockets.
    pub(crate) tcp_bytes: u64,
    /// Bytes of the slab caches that sockets live in, for both of their ends; they can be read by root only.
    pub(crate) slab_bytes: u64,
}

/// The process and all of its descendants.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        let tasks = std::fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten();
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|child| child.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// What processes use now; none where the first is gone.
pub(crate) fn usage(pids: &[u32]) -> Option<Usage> {
    let mut all = Usage::default();
    for (index, pid) in pids.iter().enumerate() {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).ok();
        let (Some(status), Some(stat)) = (read("status"), read("stat")) else {
            if index == 0 {
                return None;
            }
            continue;
        };
        all.rss += resident(&status)?;
        all.cpu += processor_time(&stat)?;
    }
    Some(all)
}

/// What the kernel holds now.
pub(crate) fn kernel() -> Kernel {
    let sockstat = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let slabinfo = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    Kernel {
        tcp_bytes: tcp_pages(&sockstat).unwrap_or(0) * 4096,
        slab_bytes: slab(&slabinfo),
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)); field 2 is a name that may hold anything, up to the last parenthesis.
fn processor_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// A socket, its file, and its place in a poll. Its directory entry has a cache that everything else uses, too.
const CACHES: [&str; 4] = ["TCP", "sock_inode_cache", "filp", "eventpoll_epi"];

/// Objects in use by their sizes (columns 2 and 4 of slabinfo(5)).
fn slab(slabinfo: &str) -> u64 {
    slabinfo
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let active: u64 = words.next()?.parse().ok()?;
            let size: u64 = words.nth(1)?.parse().ok()?;
            CACHES.contains(&name).then_some(active * size)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_books_are_read() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   1024 kB\n"), Some(1024 * 1024));
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(processor_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(processor_time("nothing"), None);
        let sockstat = "sockets: used 9\nTCP: inuse 3 orphan 0 tw 1 alloc 4 mem 25\n";
        assert_eq!(tcp_pages(sockstat), Some(25));
        let slabinfo = "# name <active_objs>\nTCP 3 13 2368 13 8 : x\nTCPv6 9 9 2496\nfilp 2 21 192 21\n";
        assert_eq!(slab(slabinfo), 3 * 2368 + 2 * 192);
    }

    #[test]
    fn a_process_knows_itself() {
        let pid = std::process::id();
        assert!(family(pid).contains(&pid));
        let usage = usage(&[pid]).unwrap();
        assert!(usage.rss > 0);
    }
}
