//! Suggestions: the known word that a misspelt one is closest to.

/// Longer words are no slips of the finger, and comparing them costs time.
const LONGEST_CHARS: usize = 40;

/// The candidate that `word` was probably meant to be.
pub(crate) fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = folded(word);
    if word.is_empty() || word.len() > LONGEST_CHARS {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &folded(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `_`, `-` and case are what people mix up first: they count for nothing.
fn folded(word: &str) -> Vec<char> {
    word.chars()
        .take(LONGEST_CHARS + 1)
        .flat_map(char::to_lowercase)
        .filter(|c| !"_- ".contains(*c))
        .collect()
}

/// Edits between two words: insert, delete, replace, or swap two neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let keys = [
            "connections",
            "arrival",
            "warmup",
            "measure",
            "drain",
            "when-full",
            "ms",
        ];
        for (word, expected) in [
            ("conections", Some("connections")),
            ("connectoins", Some("connections")),
            ("warm-up", Some("warmup")),
            ("when_full", Some("when-full")),
            ("Measure", Some("measure")),
            ("duration", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(closest(word, keys), expected, "{word}");
        }
        assert_eq!(closest(&"x".repeat(100_000), keys), None);
    }
}
