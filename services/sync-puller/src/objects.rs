//! Sources as objects of a cluster.

mod resource;
