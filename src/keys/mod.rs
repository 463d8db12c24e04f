//! The keys: who can read, and how that ends. A secret that leaves this floor belongs to one subject and one class.

pub mod tree;
