//! How wide text is: the advance widths of the embedded typeface, so that legends and notes fit where they are put.

/// Advance of the printable ASCII characters of Inter Regular, in thousandths of the font size (assets/README.md).
const ADVANCES: [u16; 95] = [
    281, 288, 466, 633, 642, 982, 644, 300, 365, 365, 501, 662, 288, 460, 288, 360, 631, 407, 610, 618, 646,
    593, 620, 566, 619, 620, 288, 302, 662, 662, 662, 511, 966, 690, 654, 730, 722, 601, 590, 746, 743, 269,
    571, 672, 565, 903, 753, 765, 639, 765, 644, 642, 646, 744, 690, 985, 682, 679, 629, 365, 360, 365, 471,
    456, 323, 562, 612, 571, 612, 583, 370, 613, 591, 242, 242, 549, 242, 876, 591, 600, 612, 612, 376, 528,
    327, 591, 562, 818, 546, 562, 552, 426, 333, 426, 662,
];

/// Any other character is taken to be this wide.
const OTHER: f64 = 0.65;

/// The width of `text` at `size`, in pixels; a little more than in the embedded typeface, as a browser may substitute
/// a wider one.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let advance = |c: char| {
        let index = (c as usize).checked_sub(0x20);
        index
            .and_then(|i| ADVANCES.get(i))
            .map_or(OTHER, |a| f64::from(*a) / 1000.0)
    };
    text.chars().map(advance).sum::<f64>() * size * 1.04
}

/// `text`, cut with an ellipsis to fit into `room` pixels at `size`.
pub(super) fn fit(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if width(&kept, size) + width(&format!("{c}…"), size) > room {
            break;
        }
        kept.push(c);
    }
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_fit() {
        assert_eq!(fit("short", 12.0, 200.0), "short");
        let cut = fit("a long remark that does not fit", 12.0, 80.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0) <= 80.0, "{cut}");
    }
}
