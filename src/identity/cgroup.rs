//! Which pod a thread belongs to, read from the text of its /proc/TID/cgroup.
