//! For `benches`: routing, from outside. Nothing else may use it.

use hyper::Method;

use super::route::Route;

/// Whether there is such a path, and it takes the method.
pub fn is_served(path: &str, method: &Method) -> bool {
    Route::of(path).is_some_and(|route| route.allows(method))
}
