//! The report as one page that needs nothing else: styles, script and plots are in it.

mod growth;
mod page;
mod plot;

pub use self::{
    growth::growth,
    page::{comparison, report},
};

/// Text in HTML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}
